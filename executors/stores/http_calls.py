"""Plain calls over connections that check the address they connect to as an http step's own do.

Knows the transport; nothing of steps. A redirect is not followed: what is asked here is asked with a secret.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import requests
from urllib3.exceptions import HTTPError

from executors.contract import ActionFailed, Credential
from executors.stores.http_addresses import AddressPolicy
from executors.stores.http_replies import pieces
from executors.stores.http_transport import CONNECT_SECONDS, CheckedSession, Exchange

MAX_REPLY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered. `headers` are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


class CheckedCalls:
    """Calls to addresses that steps may reach."""

    def __init__(self, allowed_networks: Iterable[str] = (), max_bytes: int = MAX_REPLY_BYTES) -> None:
        self.policy = AddressPolicy(allowed_networks)
        self._max_bytes = max_bytes

    def __call__(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        cancelled: Event,
        into: BinaryIO | None = None,
        **options: Any,
    ) -> Reply:
        """One request; `options` are those of `requests`. The body of a 2xx goes into the file `into`, however long.

        Raises: `ActionFailed` (`http_connection`, `cancelled`, and what a reply is refused for).
        """
        exchange = Exchange(time.monotonic() + seconds, cancelled)
        try:
            with exchange, CheckedSession(self.policy) as session:
                timeout = (min(CONNECT_SECONDS, seconds), seconds)
                with session.request(
                    method, url, timeout=timeout, allow_redirects=False, stream=True, **options
                ) as response:
                    content = self._take(response, into)
                if exchange.cause:
                    raise OSError("stopped")
                return Reply(response.status_code, response.headers, content)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            if exchange.cause == "cancelled":
                raise ActionFailed("cancelled", "stopped because the job was cancelled") from None
            late = exchange.cause == "timeout" or isinstance(error, requests.Timeout)
            told = f"no complete reply after {seconds:g} s" if late else exchange.refusal or type(error).__name__
            raise ActionFailed("http_connection", told) from None

    def _take(self, response: requests.Response, into: BinaryIO | None) -> bytes:
        if into is None or not 200 <= response.status_code < 300:
            return b"".join(pieces(response, self._max_bytes))
        into.writelines(pieces(response, sys.maxsize))
        return b""


def idempotency_key(effect_key: str) -> str:
    """What stands in the header `Idempotency-Key`: a step's name may hold what no header can."""
    return quote(effect_key, safe=":#/,;=+@ ")


def headers_of(credential: Credential) -> dict[str, str]:
    """The header that a credential stands for: one as `executors.auth` gives it. Raises: `ActionFailed`."""
    match credential.type:
        case "bearer" | "token" | "oauth":
            return {"Authorization": f"Bearer {field_of(credential, 'token')}"}
        case "basic":
            pair = f"{field_of(credential, 'username')}:{field_of(credential, 'password')}"
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        case "api_key":
            return {field_of(credential, "header"): field_of(credential, "value")}
        case "header":
            return {field_of(credential, "name"): field_of(credential, "value")}
    message = f"a credential of type {credential.type!r} makes no header of http"
    raise ActionFailed("credential_invalid", message)


def field_of(credential: Credential, name: str) -> str:
    """A field that is needed. Raises: `ActionFailed` when it is missing or blank."""
    if not credential.data.get(name):
        raise ActionFailed("credential_invalid", f"credential {credential.name!r} lacks {name!r}")
    return credential.data[name]
