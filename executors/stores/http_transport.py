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
from threading import Event
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.poolmanager import PoolManager

from executors.stores.http_addresses import AddressPolicy

WATCH_SECONDS = 0.05
IDLE_LOOKS = 40
CONNECT_SECONDS = 10.0
_current = threading.local()

Candidate = tuple[Any, Any, int, str, tuple[Any, ...]]


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
        self._sockets: list[socket.socket] = []
        self._goes_on = False
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def __enter__(self) -> Exchange:
        _current.exchange = self
        _watch.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.exchange = None
        if not self._goes_on:
            self.end()

    def go_on(self) -> None:
        """Watch on after the context, until `end`: a body is still to be read."""
        self._goes_on = True

    def end(self) -> None:
        """Watch no more."""
        _watch.end(self)
        with self._lock:
            for guard in self._sockets:
                guard.close()
            self._sockets.clear()

    def check(self) -> None:
        """Raises: `OSError` when it was ended: a socket that was shut may look like the end of a reply."""
        if self.cause:
            raise OSError("stopped")

    def guard(self, connected: socket.socket) -> None:
        """Watch over a socket by a plain duplicate, whether TLS wraps it later or has done so already."""
        with self._lock:
            duplicate = socket.socket(fileno=os.dup(connected.fileno()))
            self._sockets.append(duplicate)
            if self.cause:
                _shut(duplicate)

    def wait_for(self, done: Event) -> bool:
        """Wait until it is done. Returns: False when the exchange ended before."""
        while not done.wait(WATCH_SECONDS):
            if self.cause:
                return False
        return True

    def look(self) -> None:
        """End it when it is time; called again and again from another thread."""
        if self._cancelled.is_set():
            self._end("cancelled")
        elif time.monotonic() >= self._deadline:
            self._end("timeout")

    def _end(self, cause: str) -> None:
        with self._lock:
            self.cause = self.cause or cause
            for guard in self._sockets:
                _shut(guard)


class _Watch:
    """A thread that looks at all exchanges; it outlives them for a while, as to start it costs as much as a request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exchanges: set[Exchange] = set()
        self._thread: threading.Thread | None = None

    def begin(self, exchange: Exchange) -> None:
        """Look at it from now on."""
        with self._lock:
            self._exchanges.add(exchange)
            # Of a process that was forked the thread is not alive.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look_on, name="http-watch", daemon=True)
                self._thread.start()

    def end(self, exchange: Exchange) -> None:
        """Look at it no more."""
        with self._lock:
            self._exchanges.discard(exchange)

    def _look_on(self) -> None:
        pause, idle = Event(), 0
        while True:
            with self._lock:
                watched = list(self._exchanges)
                idle = 0 if watched else idle + 1
                if idle > IDLE_LOOKS:
                    self._thread = None
                    return
            for exchange in watched:
                exchange.look()
            pause.wait(WATCH_SECONDS)


_watch = _Watch()


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
    candidates = _resolve(host, port, exchange)
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
            connected.settimeout(timeout if exchange is None else min(timeout, exchange.seconds_left))
            if exchange is not None:
                exchange.guard(connected)
            connected.connect(address)
            return connected
        except OSError as error:
            connected.close()
            failed = error
            if exchange is not None:
                exchange.check()
    raise failed


def _resolve(host: str, port: int, exchange: Exchange | None) -> list[Candidate]:
    """The addresses of a host. Raises: `OSError`, `UnicodeError`.

    A resolver has no time-out of its own to set, so that names are asked for in a thread which may be left behind.
    """
    with contextlib.suppress(socket.gaierror):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    found: list[list[Candidate]] = []
    failed: list[Exception] = []
    done = Event()

    def ask() -> None:
        try:
            found.append(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=ask, name="http-resolver", daemon=True).start()
    if exchange is None:
        done.wait()
    elif not exchange.wait_for(done):
        raise TimeoutError("the name was not resolved in time")
    if failed:
        raise failed[0]
    return found[0]


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


def _pool_classes(
    policy: AddressPolicy,
    plain_base: type[HTTPConnection] = HTTPConnection,
    secure_base: type[HTTPSConnection] = HTTPSConnection,
) -> dict[str, type[HTTPConnectionPool]]:
    plain = type("CheckedHTTPConnection", (_CheckedConnection, plain_base), {"policy": policy})
    secure = type("CheckedHTTPSConnection", (_CheckedConnection, secure_base), {"policy": policy})
    return {
        "http": type("CheckedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("CheckedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class CheckedSession(requests.Session):
    """A session that takes nothing from the environment and leads nowhere by itself."""

    def __init__(self, policy: AddressPolicy) -> None:
        super().__init__()
        self.trust_env = False
        # What replies are unpacked from, whatever else is installed.
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self.adapters.clear()
        for scheme in ("https://", "http://"):
            self.mount(scheme, _CheckedAdapter(policy))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: `requests` would read all of a redirect's body, however large it is."""
        return None


def checked_manager(
    policy: AddressPolicy, plain: type[HTTPConnection], secure: type[HTTPSConnection], at_once: int
) -> PoolManager:
    """Checked connections of somebody else's classes, for a library that makes its requests itself.

    `at_once`: how many of them are kept for one host.
    """
    manager = PoolManager(maxsize=at_once, cert_reqs="CERT_REQUIRED", ca_certs=DEFAULT_CA_BUNDLE_PATH)
    manager.pool_classes_by_scheme = _pool_classes(policy, plain, secure)
    return manager


def connect(policy: AddressPolicy, host: str, port: int, timeout: float) -> socket.socket:
    """A connection that is checked, for whatever is spoken over it. Raises: `OSError`."""
    return _connect(policy, host, port, timeout, None)
