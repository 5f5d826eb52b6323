"""Scripts from web servers, under the rules that http steps have: checked addresses, one clock over all of it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from executors.contract import ActionFailed
from executors.scripts.places import MAX_BYTES, Asked
from executors.stores.http_addresses import AddressPolicy
from executors.stores.http_replies import pieces
from executors.stores.http_transport import CheckedSession, Exchange

CONNECT_SECONDS = 10.0


class WebScripts:
    """Fetches what is at http and https addresses. A redirect is not followed: name the place itself."""

    def __init__(self, allowed_networks: Iterable[str] = ()) -> None:
        self._policy = AddressPolicy(allowed_networks)

    def fetch(self, asked: Asked) -> bytes:
        """The body of a reply of 200. Raises: `ActionFailed`."""
        if urlsplit(asked.address).scheme.lower() not in ("http", "https"):
            raise ActionFailed("script_refused", f"the script {asked.address} is at no http or https address")
        return self.get(asked, asked.address, _headers(asked))

    def get(self, asked: Asked, address: str, headers: dict[str, str]) -> bytes:
        """What is at an address. Raises: `ActionFailed`."""
        exchange = Exchange(time.monotonic() + asked.seconds, asked.cancelled)
        try:
            with exchange, CheckedSession(self._policy) as session:
                reply = session.get(
                    address,
                    headers=headers,
                    timeout=(min(CONNECT_SECONDS, exchange.seconds_left), exchange.seconds_left),
                    allow_redirects=False,
                    stream=True,
                )
                with reply:
                    data = b"".join(pieces(reply, MAX_BYTES))
        except ActionFailed as failure:
            # The http kind's own word for a reply that is larger.
            raise _too_large(asked) if failure.code == "output_too_large" else failure from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise _failure(exchange, asked, error) from None
        if exchange.cause:
            # A socket that was shut may look like the end of a reply.
            raise _failure(exchange, asked, OSError("stopped"))
        if reply.status_code != 200:
            raise asked.unavailable(f"the server answered {reply.status_code} {reply.reason}")
        return data

    def close(self) -> None:
        """Nothing is kept: a session is as long as its exchange."""


def _headers(asked: Asked) -> dict[str, str]:
    headers = {"User-Agent": "noetl", "Accept": "*/*", "Accept-Encoding": "identity"}
    if asked.credential is None:
        return headers
    if "password" in asked.credential.data:
        pair = f"{asked.field('username', 'user')}:{asked.field('password')}"
        return {**headers, "Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {**headers, "Authorization": f"Bearer {asked.field('token', 'access_token', 'api_key')}"}


def _too_large(asked: Asked) -> ActionFailed:
    return ActionFailed("script_too_large", f"the script {asked.address} is larger than {MAX_BYTES} bytes")


def _failure(exchange: Exchange, asked: Asked, error: Exception) -> ActionFailed:
    if exchange.cause == "cancelled":
        return ActionFailed("cancelled", "stopped because the job was cancelled")
    if exchange.cause == "timeout" or isinstance(error, requests.Timeout):
        return ActionFailed("timeout", f"the script {asked.address} did not come within {asked.seconds:g} s")
    return asked.unavailable(exchange.refusal or error)
