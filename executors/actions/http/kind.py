"""The `http` kind's arguments, body encoding, credentials and result.

Knows what a step says and what it gets; which addresses may be reached is the transport's matter.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import requests
from pydantic import Field, model_validator
from urllib3.exceptions import HTTPError

from executors import contract
from executors.actions.http.addresses import AddressPolicy
from executors.actions.http.transport import CONNECT_SECONDS, CheckedSession, Exchange, read_bounded
from executors.auth import Auth, bound_credential
from executors.contract import ActionContext, ActionFailed, ActionRequest, Credential
from executors.sandbox.sanitise import MAX_OUTPUT_BYTES

DEFAULT_TIMEOUT_SECONDS = 30.0
BODY_METHODS = {"POST", "PUT", "PATCH"}
CHANGING_METHODS = BODY_METHODS | {"DELETE"}
USER_AGENT = "noetl"


class HttpArguments(contract.Arguments):
    """One request. `payload`, `json` and `body` are one; `data` is query or body as the method has it."""

    endpoint: str | None = None
    url: str | None = None
    method: str = Field("GET", pattern=r"^[A-Za-z]+$")
    headers: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    payload: Any = None
    json_body: Any = Field(None, alias="json")
    body: Any = None
    data: Any = None
    timeout: float = Field(DEFAULT_TIMEOUT_SECONDS, gt=0)
    auth: Auth | None = None
    use_auth: str | None = None
    verify: bool = True
    allow_redirects: bool = True

    @model_validator(mode="after")
    def _one_of_each(self) -> HttpArguments:
        if bool(self.endpoint) == bool(self.url):
            raise ValueError("give either endpoint or url")
        bodies = (self.payload, self.json_body, self.body, self.data)
        # An empty map is how playbooks of old write "no payload".
        if sum(given not in (None, {}) for given in bodies) > 1:
            raise ValueError("give only one of payload, json, body and data")
        return self

    @property
    def target(self) -> str:
        return self.endpoint or self.url or ""

    @property
    def content(self) -> Any:
        """What `payload`, `json` or `body` gave."""
        given = (self.payload, self.json_body, self.body)
        return next((body for body in given if body not in (None, {})), self.payload)


class HttpAction(contract.ActionKind):
    """Sends one request and returns `{status_code, headers, url, elapsed, data}`."""

    name: ClassVar[str] = "http"
    Arguments: ClassVar[type[contract.Arguments]] = HttpArguments

    def __init__(self, allowed_networks: Iterable[str] = (), *, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._policy = AddressPolicy(allowed_networks)
        self._max_bytes = max_bytes
        self._local = threading.local()
        self._sessions: list[CheckedSession] = []

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the networks that the settings allow. Raises: `ValueError` for a malformed one."""
        return cls(getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ()))

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """The reply of a 2xx.

        Raises: `ActionFailed` (`http_status` with the reply in `data`, `http_connection` also for a refused
        address, `timeout`, `cancelled`, `output_too_large`).
        """
        arguments = HttpArguments.check(request.arguments)
        _check_scheme(arguments.target)
        bound = bound_credential(arguments.auth, arguments.use_auth, context)
        credential = bound.credential if bound else None
        seconds = min(arguments.timeout, request.timeout_seconds)
        exchange = Exchange(time.monotonic() + seconds, context.cancelled)
        try:
            with exchange:
                return self._send(arguments, request.effect_key, credential, exchange)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise _failure(exchange, error, seconds, credential) from None

    def close(self) -> None:
        for session in self._sessions:
            session.close()

    def _send(
        self, arguments: HttpArguments, effect_key: str, credential: Credential | None, exchange: Exchange
    ) -> dict[str, Any]:
        method = arguments.method.upper()
        headers = _headers(arguments, method, effect_key, credential)
        query, body = _query_and_body(arguments, method)
        session = self._session()
        started = time.monotonic()
        response = session.request(
            method,
            arguments.target,
            params=query,
            headers=headers,
            **_encode_body(body, headers),
            timeout=(min(CONNECT_SECONDS, exchange.seconds_left), exchange.seconds_left),
            verify=arguments.verify,
            allow_redirects=arguments.allow_redirects,
            stream=True,
        )
        with response:
            content = read_bounded(response, self._max_bytes, self._too_large)
        if exchange.cause:
            # A socket that was shut may look like the end of a reply.
            raise OSError("stopped")
        reply = {
            "status_code": response.status_code,
            "headers": dict(response.headers),
            "url": credential.mask(response.url) if credential else response.url,
            "elapsed": round(time.monotonic() - started, 6),
            "data": _decode(response, content),
        }
        if not 200 <= response.status_code < 300:
            raise ActionFailed("http_status", f"HTTP {response.status_code}: {response.reason}", data=reply)
        return reply

    def _session(self) -> CheckedSession:
        """This thread's session; cookies of an earlier job are forgotten."""
        session: CheckedSession | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = CheckedSession(self._policy)
            self._sessions.append(session)
        session.cookies.clear()
        return session

    def _too_large(self) -> ActionFailed:
        return ActionFailed("output_too_large", f"the reply is larger than {self._max_bytes} bytes; ask for less of it")


def _check_scheme(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise ActionFailed("arguments_invalid", "endpoint must be an http or https address")


def _headers(
    arguments: HttpArguments, method: str, effect_key: str, credential: Credential | None
) -> requests.structures.CaseInsensitiveDict[str]:
    headers = requests.structures.CaseInsensitiveDict({"User-Agent": USER_AGENT})
    headers.update({name: str(value) for name, value in arguments.headers.items() if value is not None})
    if method in CHANGING_METHODS and "Idempotency-Key" not in headers:
        headers["Idempotency-Key"] = effect_key
    if credential is not None:
        headers.update(_credential_headers(credential))
    return headers


def _credential_headers(credential: Credential) -> dict[str, str]:
    """The header a credential stands for. Raises: `ActionFailed` for a type or fields that make none."""
    data = credential.data
    kind = credential.type.lower()
    try:
        if kind in ("bearer", "httpbearerauth", "token", "oauth"):
            return {"Authorization": f"Bearer {_first(data, 'token', 'access_token', 'api_key')}"}
        if kind in ("basic", "httpbasicauth"):
            pair = f"{_first(data, 'username', 'user')}:{_first(data, 'password')}"
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        if kind == "api_key":
            return {data.get("header") or "X-API-Key": _first(data, "value", "key")}
        if kind == "header":
            return {_first(data, "name"): _first(data, "value")}
    except KeyError as error:
        raise ActionFailed("credential_invalid", f"credential {credential.name!r} lacks {error}") from None
    raise ActionFailed("credential_invalid", f"a credential of type {credential.type!r} cannot be used for http")


def _first(data: Mapping[str, str], *names: str) -> str:
    for name in names:
        if data.get(name):
            return data[name]
    raise KeyError(names[0])


def _query_and_body(arguments: HttpArguments, method: str) -> tuple[dict[str, Any], Any]:
    query, body = dict(arguments.params), arguments.content
    data = arguments.data
    if isinstance(data, dict) and data and set(data) <= {"query", "body"}:
        query |= data.get("query") or {}
        body = data.get("body")
    elif data is not None and method in BODY_METHODS:
        body = data
    elif isinstance(data, dict):
        query |= data
    return query, body if method in BODY_METHODS and body is not None else None


def _encode_body(body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    """The keyword of `requests` that writes `body` as the content type asks."""
    if body is None:
        return {}
    content_type = headers.get("Content-Type", "").lower()
    if "multipart/form-data" in content_type and isinstance(body, dict):
        # The boundary is part of the type, so requests has to write it.
        del headers["Content-Type"]  # type: ignore[attr-defined]  # its stub says mapping
        return {"files": {name: (None, _part(value)) for name, value in body.items()}}
    if "application/x-www-form-urlencoded" in content_type:
        return {"data": body}
    if isinstance(body, str) and "json" not in content_type:
        return {"data": body.encode()}
    if isinstance(body, str):
        return {"data": body.encode() if _is_json(body) else json.dumps(body)}
    return {"json": body}


def _part(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _decode(response: requests.Response, content: bytes) -> Any:
    """JSON when the reply says so and it is, else text."""
    content_type = response.headers.get("Content-Type", "").lower()
    if "application/json" in content_type or "+json" in content_type:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            pass
    try:
        return content.decode(response.encoding or "utf-8", errors="replace")
    except LookupError:
        return content.decode("utf-8", errors="replace")


def _failure(exchange: Exchange, error: Exception, seconds: float, credential: Credential | None) -> ActionFailed:
    if exchange.cause == "cancelled":
        return ActionFailed("cancelled", "stopped because the job was cancelled")
    if exchange.cause == "timeout" or isinstance(error, requests.Timeout):
        return ActionFailed("timeout", f"Request error: no complete reply after {seconds:g} s")
    text = f"Request error: {exchange.refusal or error}"
    return ActionFailed("http_connection", credential.mask(text) if credential else text)
