"""What every provider of secrets is asked with, and what it answers.

Knows no provider.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from executors import contract
from executors.auth import Auth, Bound, bound_credential
from executors.contract import ActionContext, ActionFailed

LATEST: Final = "latest"
REQUEST_PARTS: Final = frozenset({"headers", "params", "payload", "method"})
DEFAULT_TIMEOUT_SECONDS: Final = 30.0


class SecretsArguments(contract.Arguments):
    """What each provider takes is in [Secrets](language.md#secrets)."""

    provider: Literal["google", "aws", "azure", "vault", "env", "file", "credential", "custom"] = Field(
        description="Who has it."
    )
    secret_name: str = Field(
        min_length=1, max_length=1000, description="Its name there; of env `NAME` for the worker's `NOETL_SECRET_NAME`."
    )
    version: str | int = Field(LATEST, description="Of AWS a stage or a version's id.")
    field: str | None = Field(None, description="Which one of a secret that has several.")
    project_id: str | None = Field(
        None, description="google: whose secret it is; else the credential's, or `GOOGLE_CLOUD_PROJECT`."
    )
    region: str | None = Field(None, description="aws: else the credential's, `AWS_REGION` or us-east-1.")
    vault_name: str | None = Field(None, description="azure: needed without an `api_endpoint`.")
    api_endpoint: str | None = Field(None, description="custom: where it is asked; else in place of the usual address.")
    auth: Auth | None = Field(None, description="A credential; of custom also `{method, headers, params, payload}`.")
    use_auth: str | None = Field(None, description="Which of several in `auth`.")
    timeout: float = Field(DEFAULT_TIMEOUT_SECONDS, gt=0, description="Seconds for the provider's answer.")

    @model_validator(mode="after")
    def _needs(self) -> SecretsArguments:
        if self.provider == "azure" and not (self.vault_name or self.api_endpoint):
            raise ValueError("azure needs vault_name")
        if self.provider == "custom" and not self.api_endpoint:
            raise ValueError("custom needs api_endpoint")
        if self.provider == "aws" and self.api_endpoint:
            raise ValueError("aws takes no api_endpoint: the worker's AWS_ENDPOINT_URL is used")
        if self.api_endpoint and urlsplit(self.api_endpoint).scheme not in ("http", "https"):
            raise ValueError("api_endpoint must be an http or https address")
        return self

    @property
    def wanted_version(self) -> str | None:
        """The version that is asked for; None for the newest."""
        told = str(self.version).strip()
        return None if told.lower() in ("", LATEST) else told

    @property
    def request_parts(self) -> dict[str, Any] | None:
        """`auth` as the parts of a request of its own; None when it is a reference to a credential."""
        if isinstance(self.auth, Mapping) and self.auth and self.auth.keys() <= REQUEST_PARTS:
            return dict(self.auth)
        return None


@dataclass(frozen=True, slots=True)
class Secret:
    """A fetched secret, in clear; it never leaves the worker's memory."""

    value: str
    version: str = ""

    def __repr__(self) -> str:
        return f"Secret(version={self.version!r})"


class Call(Protocol):
    """One HTTP request over checked connections; see `executors.stores.http_calls`."""

    def __call__(self, method: str, url: str, *, seconds: float, cancelled: Any, **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to a provider: the arguments, and all that is lent to answer it."""

    arguments: SecretsArguments
    context: ActionContext
    send: Call
    folder: Path | None
    deadline: float
    """Monotonic."""

    @property
    def seconds_left(self) -> float:
        """At least a little, so that what is late fails as such."""
        return max(0.1, self.deadline - time.monotonic())

    def bound(self) -> Bound | None:
        """The credential that `auth` names. Raises: `ActionFailed`."""
        if self.arguments.request_parts is not None:
            raise ActionFailed("arguments_invalid", f"auth: {self.arguments.provider} takes a credential")
        return bound_credential(self.arguments.auth, self.arguments.use_auth, self.context)

    def call(self, method: str, url: str, **options: Any) -> Any:
        """A reply that is no redirect. Raises: `ActionFailed`."""
        try:
            return self.send(method, url, seconds=self.seconds_left, cancelled=self.context.cancelled, **options)
        except ActionFailed as failure:
            if failure.code != "http_connection":
                raise
            where = urlsplit(url).netloc
            message = f"{self.arguments.provider}: {where} gave no answer: {failure}"
            raise ActionFailed("secret_provider_failed", self.context.hide(message)) from None

    def answer(self, method: str, url: str, **options: Any) -> Any:
        """The reply of a 2xx. Raises: `ActionFailed` (`secret_not_found` for a 404), which quotes no reply."""
        reply = self.call(method, url, **options)
        if 200 <= reply.status < 300:
            return reply
        raise self.refused(reply.status)

    def refused(self, status: int) -> ActionFailed:
        """The failure that a status stands for."""
        named = f"{self.arguments.provider}: the secret {self.arguments.secret_name!r}"
        if status == 404:
            return ActionFailed("secret_not_found", f"{named} is not there")
        if status in (401, 403):
            return ActionFailed("secret_forbidden", f"{named} may not be read with what was shown (HTTP {status})")
        return ActionFailed("secret_provider_failed", f"{named} cannot be had now (HTTP {status})")

    def one_field(self, fields: Mapping[str, Any]) -> str:
        """The field that is asked for, or the only one, or the one called `value`. Raises: `ActionFailed`."""
        wanted = self.arguments.field
        name = wanted or ("value" if "value" in fields else next(iter(fields)) if len(fields) == 1 else None)
        told = ", ".join(sorted(fields)) or "none"
        if name is None:
            message = f"the secret {self.arguments.secret_name!r} has several fields ({told}): name one with `field`"
            raise ActionFailed("arguments_invalid", message)
        if fields.get(name) is None:
            message = f"the secret {self.arguments.secret_name!r} has no field {name!r} (it has: {told})"
            raise ActionFailed("secret_not_found", message)
        return text_of(fields[name])


Provider = Callable[[Asked], Secret]


def text_of(value: Any) -> str:
    """A secret's value as a text: what is none is written as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def extra_missing(provider: str, package: str) -> ActionFailed:
    """The failure of a provider whose library is not installed."""
    message = f"the provider {provider} needs {package}, which is not installed: pip install {package}"
    return ActionFailed("extra_missing", message)
