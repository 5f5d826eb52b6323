"""What apprise sees in place of `requests` and `smtplib`: the same calls, over connections that are checked.

Apprise's services call these modules from everywhere, with no session to hand in. So each of its modules is given a
stand-in under the module's name; the modules themselves, and whoever else uses them, stay as they are. A stand-in sends
only inside of a `Delivery` of its thread, and has nothing that could send otherwise.
"""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import requests

from executors.stores.http_addresses import AddressPolicy
from executors.stores.http_transport import CONNECT_SECONDS, CheckedSession, Exchange, connect

MAX_REPLY_BYTES: Final = 1 << 20
"""Of a service's reply; nothing reads more than a few words of it."""
CHUNK_BYTES: Final = 1 << 16
OWN_NAME: Final = "[127.0.0.1]"
"""How a mail server is greeted: to look up this host's name may take long, and tells of it."""

_here = threading.local()


class Delivery:
    """One target's exchange with its service. `answer` is the last status that the service gave, HTTP's or SMTP's."""

    def __init__(self, policy: AddressPolicy, exchange: Exchange) -> None:
        self.policy = policy
        self.exchange = exchange
        self.answer: int | None = None

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Let what this thread sends be part of it."""
        _here.delivery = self
        try:
            with self.exchange:
                yield
        finally:
            _here.delivery = None


def _delivery() -> Delivery:
    """That of this thread. Raises: `RequestException` when there is none, or it is over."""
    found: Delivery | None = getattr(_here, "delivery", None)
    if found is None or found.exchange.cause:
        raise requests.RequestException("nothing is sent outside of a delivery")
    return found


class Requests:
    """Stands for the module `requests`: its calls, its statuses and its errors, and no sessions."""

    auth = requests.auth
    codes = requests.codes
    exceptions = requests.exceptions

    def __getattr__(self, name: str) -> Any:
        found = getattr(requests, name)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
        raise AttributeError(f"services use no requests.{name}")

    def request(self, method: str, url: str, **asked: Any) -> requests.Response:
        """Send one request and read its reply. Raises: `RequestException`."""
        delivery = _delivery()
        left = delivery.exchange.seconds_left
        # Redirects would lead a message with its tokens to whom nobody has named.
        kept = {name: value for name, value in asked.items() if name in _KEPT}
        with CheckedSession(delivery.policy) as session:
            reply = session.request(
                method,
                url,
                **kept,
                timeout=(min(CONNECT_SECONDS, left), left),
                allow_redirects=False,
                stream=True,
            )
            _read(reply)
        delivery.answer = reply.status_code
        return reply

    def get(self, url: str, **asked: Any) -> requests.Response:
        return self.request("GET", url, **asked)

    def post(self, url: str, **asked: Any) -> requests.Response:
        return self.request("POST", url, **asked)

    def put(self, url: str, **asked: Any) -> requests.Response:
        return self.request("PUT", url, **asked)

    def patch(self, url: str, **asked: Any) -> requests.Response:
        return self.request("PATCH", url, **asked)

    def delete(self, url: str, **asked: Any) -> requests.Response:
        return self.request("DELETE", url, **asked)

    def head(self, url: str, **asked: Any) -> requests.Response:
        return self.request("HEAD", url, **asked)


_KEPT: Final = frozenset({"params", "data", "json", "headers", "auth", "verify", "files", "cookies"})


def _read(reply: requests.Response) -> None:
    body = bytearray()
    for chunk in reply.iter_content(CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise requests.exceptions.ContentDecodingError(f"the reply is larger than {MAX_REPLY_BYTES} bytes")
    reply._content = bytes(body)  # what `content` gives when the body was read already


class _CheckedSmtp(smtplib.SMTP):
    def __init__(self, host: str = "", port: int = 0, local_hostname: str | None = None, **asked: Any) -> None:
        super().__init__(host, port, local_hostname or OWN_NAME, **asked)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        delivery = _delivery()
        left = delivery.exchange.seconds_left
        connected = connect(delivery.policy, host, port, min(CONNECT_SECONDS, left))
        connected.settimeout(left)
        return connected

    def getreply(self) -> tuple[int, bytes]:
        found = super().getreply()
        delivery: Delivery | None = getattr(_here, "delivery", None)
        # A refusal stays: what follows it is a polite end.
        if delivery is not None and (delivery.answer is None or found[0] >= 400):
            delivery.answer = found[0]
        return found


class _CheckedSmtpSsl(smtplib.SMTP_SSL, _CheckedSmtp):
    """Wraps in TLS what its second base has connected."""


class Smtplib:
    """Stands for the module `smtplib`: its two clients and its errors."""

    SMTP = _CheckedSmtp
    SMTP_SSL = _CheckedSmtpSsl

    def __getattr__(self, name: str) -> Any:
        found = getattr(smtplib, name)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
        raise AttributeError(f"services use no smtplib.{name}")


REQUESTS: Final = Requests()
SMTPLIB: Final = Smtplib()
