"""Connections that check the address they connect to, and exchanges that end on time.

Knows sockets, requests and urllib3; nothing of steps. A name is resolved once per connection and the
connection goes to a checked address, so no second resolution can answer differently.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from executors.actions.http.addresses import AddressPolicy

MAX_REDIRECTS = 5
WATCH_SECONDS = 0.05
CONNECT_SECONDS = 10.0
# What may follow a redirect to another host; anything else may be a credential.
HARMLESS_HEADERS = {
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "idempotency-key",
    "transfer-encoding",
    "user-agent",
}
_current = threading.local()


class AddressRefused(OSError):
    """The name leads only to addresses that steps may not reach."""


class Exchange:
    """One request with its redirects: ends its sockets at the deadline or when the job is cancelled.

    Time-outs of sockets count from byte to byte; a server that drips needs a clock over all of it.
    """

    def __init__(self, deadline: float, cancelled: Event) -> None:
        self.cause = ""
        self.refusal = ""
        self._deadline = deadline
        self._cancelled = cancelled
        self._done = Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, name="http-exchange", daemon=True)

    @property
    def seconds_left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def __enter__(self) -> Exchange:
        _current.exchange = self
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        _current.exchange = None
        self._done.set()
        self._watcher.join()
        for guard in self._sockets:
            guard.close()

    def guard(self, connected: socket.socket) -> None:
        """Watch over a socket by a plain duplicate, whether TLS wraps it later or has done so already."""
        with self._lock:
            duplicate = socket.socket(fileno=os.dup(connected.fileno()))
            self._sockets.append(duplicate)
            if self.cause:
                _shut(duplicate)

    def _watch(self) -> None:
        while not self._done.is_set():
            if self._cancelled.is_set():
                return self._end("cancelled")
            left = self._deadline - time.monotonic()
            if left <= 0:
                return self._end("timeout")
            self._done.wait(min(left, WATCH_SECONDS))
        return None

    def _end(self, cause: str) -> None:
        with self._lock:
            self.cause = cause
            for guard in self._sockets:
                _shut(guard)


def _shut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _CheckedConnection:
    """Mixed into urllib3's connections; `policy` is set by the pool's class."""

    policy: AddressPolicy

    def _new_conn(self: Any) -> socket.socket:
        try:
            connected = _connect(self.policy, self._dns_host, self.port, self.timeout, self.socket_options)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        return connected

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        exchange: Exchange | None = getattr(_current, "exchange", None)
        if exchange is not None and self.sock is not None:
            # Kept alive from an earlier exchange, so no new connection told us of it.
            exchange.guard(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]  # urllib3 overloads it


def _connect(
    policy: AddressPolicy, host: str, port: int, timeout: float, options: list[tuple[Any, ...]] | None
) -> socket.socket:
    """Connect to the first allowed address of `host` that answers. Raises: `OSError`."""
    exchange: Exchange | None = getattr(_current, "exchange", None)
    candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [candidate for candidate in candidates if policy.allows(str(candidate[4][0]))]
    if not allowed:
        refusal = f"{host} is not a public address, and NOETL_HTTP_ALLOWED_NETWORKS does not name it"
        if exchange is not None:
            exchange.refusal = refusal
        raise AddressRefused(refusal)
    failed: OSError = OSError("no address")
    for family, kind, protocol, _, address in allowed:
        connected = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                connected.setsockopt(*option)
            connected.settimeout(timeout)
            if exchange is not None:
                exchange.guard(connected)
            connected.connect(address)
            return connected
        except OSError as error:
            connected.close()
            failed = error
    raise failed


class _CheckedAdapter(HTTPAdapter):
    """Sends through checked connections, whatever the scheme."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._pools = _pool_classes(policy)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        raise requests.exceptions.InvalidProxyURL("steps use no proxies")


def _pool_classes(policy: AddressPolicy) -> dict[str, type[HTTPConnectionPool]]:
    plain = type("CheckedHTTPConnection", (_CheckedConnection, HTTPConnection), {"policy": policy})
    secure = type("CheckedHTTPSConnection", (_CheckedConnection, HTTPSConnection), {"policy": policy})
    return {
        "http": type("CheckedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("CheckedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class CheckedSession(requests.Session):
    """A session that takes nothing from the environment and gives no credential to a second host."""

    def __init__(self, policy: AddressPolicy) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = MAX_REDIRECTS
        self.adapters.clear()
        for scheme in ("https://", "http://"):
            self.mount(scheme, _CheckedAdapter(policy))

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        if origin(str(prepared_request.url)) != origin(str(response.request.url)):
            for name in [name for name in prepared_request.headers if name.lower() not in HARMLESS_HEADERS]:
                del prepared_request.headers[name]


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what a credential was meant for."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


def read_bounded(response: requests.Response, max_bytes: int, on_excess: Callable[[], Exception]) -> bytes:
    """The decoded body. Raises: what `on_excess` gives when it is larger than `max_bytes`."""
    body = bytearray()
    while chunk := response.raw.read1(65_536, decode_content=True):
        body += chunk
        if len(body) > max_bytes:
            raise on_excess()
    return bytes(body)
