"""Plain calls for other kinds, over connections that check the address they connect to as a step's own do.

Knows the transport; nothing of steps. A redirect is not followed: what is asked here is asked with a secret.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any, Final

import requests
from urllib3.exceptions import HTTPError

from executors.actions.http.addresses import AddressPolicy
from executors.actions.http.replies import pieces
from executors.actions.http.transport import CONNECT_SECONDS, CheckedSession, Exchange
from executors.contract import ActionFailed

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

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        self._policy = AddressPolicy(allowed_networks)

    def __call__(self, method: str, url: str, *, seconds: float, cancelled: Event, **options: Any) -> Reply:
        """One request; `options` are those of `requests`. Raises: `ActionFailed` (`http_connection`, `cancelled`,
        and what a reply is refused for)."""
        exchange = Exchange(time.monotonic() + seconds, cancelled)
        try:
            with exchange, CheckedSession(self._policy) as session:
                timeout = (min(CONNECT_SECONDS, seconds), seconds)
                with session.request(
                    method, url, timeout=timeout, allow_redirects=False, stream=True, **options
                ) as response:
                    content = b"".join(pieces(response, MAX_REPLY_BYTES))
                if exchange.cause:
                    raise OSError("stopped")
                return Reply(response.status_code, response.headers, content)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            if exchange.cause == "cancelled":
                raise ActionFailed("cancelled", "stopped because the job was cancelled") from None
            late = exchange.cause == "timeout" or isinstance(error, requests.Timeout)
            told = f"no complete reply after {seconds:g} s" if late else exchange.refusal or type(error).__name__
            raise ActionFailed("http_connection", told) from None
