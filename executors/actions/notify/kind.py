"""The `notify` kind's arguments, its targets and what becomes of each.

Knows what a step says and what it gets; which services there are and how they connect is the other modules' matter.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event, Semaphore, Thread
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, model_validator

from executors import contract
from executors.actions.notify.connections import Delivery
from executors.actions.notify.services import UrlRefused, services, target_of
from executors.auth import Auth, bound_credential
from executors.contract import ActionContext, ActionFailed, ActionRequest, Credential
from executors.stores.http_addresses import AddressPolicy
from executors.stores.http_transport import Exchange

DEFAULT_TIMEOUT_SECONDS: Final = 30.0
AT_A_TIME: Final = 8
MOST_TARGETS: Final = 100
GRACE_SECONDS: Final = 1.0
"""For a service to notice that its connection was ended."""
LOOK_SECONDS: Final = 0.1
TIMEOUT_MARGIN_SECONDS: Final = 0.05
CREDENTIAL_TYPE: Final = "notify"
SHORTEST_TOKEN: Final = 9
"""Shorter pieces of a URL are words, and in too many texts."""


def _as_text(value: Any) -> Any:
    """What a template gave that is no text, such as `{{ rows }}`, as one."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


Text = Annotated[str, BeforeValidator(_as_text)]


class NotifyArguments(contract.Arguments):
    """A message, and to whom: a credential of type `notify` (fields `url` or `urls`), or URLs.

    A URL is one of [apprise](https://appriseit.com/services/): `mailto://`, `slack://`, `workflows://` (Teams),
    `pagerduty://`, `json://` and a hundred more. Most hold a token: put them into a credential or a secret.
    """

    title: Text = Field("", description="one line")
    body: Text = Field(min_length=1, description="the message")
    level: Literal["info", "success", "warning", "failure"] = Field(
        "info", description="how it is meant; services show it by a colour or a sign"
    )
    format: Literal["text", "markdown", "html"] = Field("text", description="what `body` is written in")
    auth: Auth | None = Field(None, description="a credential of type `notify`")
    use_auth: str | None = Field(None, description="which of several in `auth`")
    to: str | list[str] | None = Field(
        None,
        description="URLs: a list, or a text with spaces between them",
        json_schema_extra={"x-noetl-sensitive": "url"},
    )
    timeout: float = Field(DEFAULT_TIMEOUT_SECONDS, gt=0, description="seconds, for all of them together")

    @model_validator(mode="after")
    def _to_somebody(self) -> Self:
        if not self.auth and not self.to:
            raise ValueError("give auth or to: whom is it for?")
        return self


@dataclass(slots=True)
class _Told:
    """What became of one URL; `code` is empty when its service took the message."""

    shown: str
    service: str = ""
    code: str = ""
    message: str = ""

    def as_data(self) -> dict[str, str]:
        named = {"url": self.shown, **({"service": self.service} if self.service else {})}
        return {**named, "code": self.code, "message": self.message} if self.code else named

    def as_line(self) -> str:
        """For the log of the step."""
        return f"{self.shown}: {self.code}, {self.message}" if self.code else f"{self.shown}: told"


class NotifyAction(contract.ActionKind):
    """Sends a message to people: by mail, Slack, Teams, PagerDuty and the rest, each by its URL."""

    name: ClassVar[str] = "notify"
    Arguments: ClassVar[type[contract.Arguments]] = NotifyArguments
    result: ClassVar[str] = (
        "`{sent, failed}`: a list of `{url, service}` each, in the order of the URLs; of a URL only its scheme is "
        "shown, and its host where that cannot be a token. What failed has a `code` (`refused`, `connection`, "
        "`timeout`, `answer`, `url_invalid`) and a `message` as well. `failed` is empty when the step succeeds."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "notify_failed": "Not everybody was told; the step's data is `{sent, failed}`. A retry tells all again.",
        "credential_invalid": "The credential has neither `url` nor `urls`.",
        "auth_invalid": "`auth` leads to no credential, or to several.",
        "timeout": "None was told in time.",
        "cancelled": "The action was told to stop.",
    }
    example: ClassVar[str] = """\
apiVersion: noetl.io/v1
kind: Playbook
name: tell
path: docs/tell
workload: {rows: 12}
workflow:
  - step: start
    type: notify
    auth: on_call
    level: success
    title: "Loaded {{ rows }} rows"
    body: "{{ path }} is done ({{ execution_id }})."
    next: end
  - {step: end, result: "{{ start.sent | length }}"}
"""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        self._policy = AddressPolicy(allowed_networks)

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the networks that the settings allow. Raises: `ValueError` for a malformed one."""
        return cls(getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ()))

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """Who was told. Raises: `ActionFailed` when somebody was not."""
        arguments = NotifyArguments.check(request.arguments)
        urls = _urls(arguments, context)
        # Before the clock runs: once in a process it takes seconds.
        services()
        seconds = min(arguments.timeout, request.timeout_seconds)
        deadline = time.monotonic() + seconds
        told = self._tell_all(urls, arguments, deadline, context.cancelled)
        if context.cancelled.is_set():
            raise ActionFailed("cancelled", "stopped because the job was cancelled")
        for each in told:
            context.log(each.as_line(), "warning" if each.code else "info")
        failed = [each for each in told if each.code]
        data = {
            "sent": [each.as_data() for each in told if not each.code],
            "failed": [each.as_data() for each in failed],
        }
        if not failed:
            return data
        if all(each.code == "timeout" for each in told):
            raise ActionFailed("timeout", f"nobody was told within {seconds:g} s", data=data)
        reasons = "; ".join(f"{each.shown}: {each.message}" for each in failed)
        raise ActionFailed("notify_failed", f"{len(failed)} of {len(told)} were not told: {reasons}", data=data)

    def _tell_all(self, urls: list[str], arguments: NotifyArguments, deadline: float, cancelled: Event) -> list[_Told]:
        """Tell all of them, some at a time; who keeps nobody waiting past the deadline is left behind."""
        told = [_Told("***", code="timeout", message="there was no time left for it") for _ in urls]
        room = Semaphore(AT_A_TIME)

        def tell(place: int) -> None:
            with room:
                if time.monotonic() < deadline and not cancelled.is_set():
                    told[place] = self._tell(urls[place], arguments, deadline, cancelled)

        threads = [Thread(target=tell, args=(place,), name="notify", daemon=True) for place in range(len(urls))]
        for thread in threads:
            thread.start()
        give_up_at = deadline + GRACE_SECONDS
        for thread in threads:
            while thread.is_alive() and time.monotonic() < give_up_at:
                thread.join(LOOK_SECONDS)
                if cancelled.is_set():
                    give_up_at = min(give_up_at, time.monotonic() + GRACE_SECONDS)
        # A copy: one that was left behind may still come.
        return list(told)

    def _tell(self, url: str, arguments: NotifyArguments, deadline: float, cancelled: Event) -> _Told:
        try:
            target = target_of(url)
        except UrlRefused as refused:
            return _Told("***", code="url_invalid", message=str(refused))
        delivery = Delivery(self._policy, Exchange(deadline, cancelled))
        told = _Told(target.shown, target.service)
        try:
            with delivery.under_way():
                is_taken = target.tell(
                    title=arguments.title, body=arguments.body, level=arguments.level, form=arguments.format
                )
        except Exception as error:
            # A service's own defect; the text may hold anything.
            is_taken, told.message = False, f"the service's code failed ({type(error).__name__})"
        if not is_taken:
            told.code, told.message = _why_not(delivery, told.message)
        return told


def _why_not(delivery: Delivery, message: str) -> tuple[str, str]:
    exchange = delivery.exchange
    if exchange.cause == "cancelled":
        return "cancelled", "stopped because the job was cancelled"
    # A socket's own time-out may come a moment before.
    if exchange.cause == "timeout" or exchange.seconds_left < TIMEOUT_MARGIN_SECONDS:
        return "timeout", "it did not answer in time"
    if exchange.refusal:
        return "refused", exchange.refusal
    if delivery.answer is not None and not 200 <= delivery.answer < 300:
        return "answer", f"the service answered {delivery.answer}"
    return "connection", message or "no connection, or no answer that could be read"


def _urls(arguments: NotifyArguments, context: ActionContext) -> list[str]:
    """Whom the step names. Raises: `ActionFailed`."""
    given = [arguments.to] if isinstance(arguments.to, str) else arguments.to or []
    urls = [url for text in given for url in text.split()]
    if (bound := bound_credential(arguments.auth, arguments.use_auth, context)) is not None:
        urls += _urls_of(bound.credential)
    context.keep_secret(_secrets_of(urls))
    if not urls:
        raise ActionFailed("arguments_invalid", "to: there is no URL in it")
    if len(urls) > MOST_TARGETS:
        raise ActionFailed("arguments_invalid", f"to: more than {MOST_TARGETS} URLs")
    return list(dict.fromkeys(urls))


def _secrets_of(urls: Iterable[str]) -> Iterator[str]:
    """The URLs, and what may be told of one alone: whoever logs a request tells its path, and never its host."""
    for url in urls:
        yield url
        place, _, rest = url.partition("://")[2].partition("/")
        known, _, query = rest.partition("?")
        pieces = [*place.rpartition("@")[0].split(":"), *known.split("/"), *re.split("[&=]", query)]
        yield from (unquote(piece) for piece in pieces if len(piece) >= SHORTEST_TOKEN)


def _urls_of(credential: Credential) -> list[str]:
    if credential.type != CREDENTIAL_TYPE:
        message = (
            f"the credential {credential.name!r} is of type {credential.type!r}, and must be of {CREDENTIAL_TYPE!r}"
        )
        raise ActionFailed("credential_invalid", message)
    texts = [credential.data[name] for name in ("url", "urls") if credential.data.get(name)]
    urls = [url for text in texts for url in _listed(text)]
    if not urls:
        raise ActionFailed("credential_invalid", f"the credential {credential.name!r} lacks 'url' or 'urls'")
    return urls


def _listed(text: Any) -> list[str]:
    """URLs of a field: a list, the same as JSON, or a text with spaces or line breaks between them."""
    if isinstance(text, str) and text.lstrip().startswith("["):
        try:
            text = json.loads(text)
        except ValueError:
            return []
    if isinstance(text, list):
        return [url for item in text for url in str(item).split()]
    return str(text).split()
