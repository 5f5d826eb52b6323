"""Small proxies in front of real servers, on Unix sockets, that make faults which no server makes by itself.

`PostgresProxy` loses replies to COMMIT that were done; `RedisProxy` delivers messages several times. Threads, one pair
per connection; everything they do not know is passed on as it is.
"""

from __future__ import annotations

import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

CHUNK: Final = 65536
POSTGRES_SOCKET: Final = ".s.PGSQL.5432"


class Proxy(ABC):
    """Passes connections at a socket on to a server's socket; what happens on the way is the subclass's."""

    def __init__(self, listen_at: Path, server: Path) -> None:
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen_at))
        listen_at.chmod(0o777)
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no new connections."""
        # Closing alone does not wake the thread that waits for one.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @abstractmethod
    def connection(self, client: socket.socket, server: socket.socket) -> Connection:
        """The two directions of one connection."""

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._server))
                except OSError:
                    client.close()
                    continue
                self.connection(client, server).start()


class Connection:
    """One connection through a proxy: bytes of either side go through `from_client` and `from_server`."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        self._server = server

    def start(self) -> None:
        """Pass on in both directions until either side ends."""
        threading.Thread(target=self._pump, args=[self._client, self._server, self.from_client], daemon=True).start()
        threading.Thread(target=self._pump, args=[self._server, self._client, self.from_server], daemon=True).start()

    def from_client(self, data: bytes) -> bytes:
        """What the server gets of what the client has sent."""
        return data

    def from_server(self, data: bytes) -> bytes:
        """What the client gets of what the server has sent. Raises: `ConnectionAbortedError` to drop both."""
        return data

    def _pump(self, source: socket.socket, target: socket.socket, change: object) -> None:
        assert callable(change)
        with suppress(OSError):
            while data := source.recv(CHUNK):
                target.sendall(change(data))
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


# -- Postgres ---------------------------------------------------------------------------------------


class PostgresProxy(Proxy):
    """Drops connections upon the reply to a COMMIT, when armed: it was done, and its client never hears of it."""

    def __init__(self, folder: Path, server_folder: Path) -> None:
        super().__init__(folder / POSTGRES_SOCKET, server_folder / POSTGRES_SOCKET)
        self._lock = threading.Lock()
        self._armed = 0
        self._marks: tuple[bytes, ...] = ()
        self.dropped = 0

    def drop_commits(self, count: int, *marks: bytes) -> None:
        """Lose the replies to the next `count` COMMITs of transactions whose statements hold all these texts."""
        with self._lock:
            self._armed, self._marks, self.dropped = count, marks, 0

    def is_to_be_dropped(self, transaction: bytes) -> bool:
        """Whether the reply to the COMMIT of these statements is to be lost; counts it then."""
        with self._lock:
            if not self._armed or not all(mark in transaction for mark in self._marks):
                return False
            self._armed -= 1
            self.dropped += 1
            return True

    def connection(self, client: socket.socket, server: socket.socket) -> Connection:
        """One session."""
        return _PostgresSession(self, client, server)


class _PostgresSession(Connection):
    """Statements come as text (psycopg binds on the client's side), so a transaction is known by what it says."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self._proxy = proxy
        self._said = b""
        self._received = b""

    def from_client(self, data: bytes) -> bytes:
        self._said += data
        return data

    def from_server(self, data: bytes) -> bytes:
        """Messages are a letter, then their length with itself: `C` a command is complete, `Z` ready for another."""
        self._received += data
        while len(self._received) >= 5:
            (length,) = struct.unpack("!I", self._received[1:5])
            if len(self._received) < length + 1:
                break
            message, self._received = self._received[: length + 1], self._received[length + 1 :]
            if message[:1] == b"C" and message[5:] == b"COMMIT\0" and self._proxy.is_to_be_dropped(self._said):
                raise ConnectionAbortedError
            if message[:1] == b"Z" and message[5:] == b"I":
                # No transaction is open: what was said belongs to none that is to come.
                self._said = b""
        return data


# -- Redis ------------------------------------------------------------------------------------------


class RedisProxy(Proxy):
    """Sends every LPUSH as often as `times` says and swallows the replies to all but the first."""

    def __init__(self, listen_at: Path, server: Path) -> None:
        super().__init__(listen_at, server)
        self.times = 1
        self.repeated = 0

    def connection(self, client: socket.socket, server: socket.socket) -> Connection:
        """One session."""
        return _RedisSession(self, client, server)


class _RedisSession(Connection):
    """Replies come in the order of the commands, so a queue tells which of them the client is to see."""

    def __init__(self, proxy: RedisProxy, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self._proxy = proxy
        self._commands = b""
        self._replies = b""
        self._expected: deque[bool] = deque()

    def from_client(self, data: bytes) -> bytes:
        self._commands += data
        passed = b""
        while (end := _end_of_value(self._commands)) is not None:
            command, self._commands = self._commands[:end], self._commands[end:]
            is_push = command.split(b"\r\n", 3)[2:3] == [b"LPUSH"]
            times = self._proxy.times if is_push else 1
            self._proxy.repeated += times - 1
            self._expected.extend([True] + [False] * (times - 1))
            passed += command * times
        return passed

    def from_server(self, data: bytes) -> bytes:
        self._replies += data
        passed = b""
        while (end := _end_of_value(self._replies)) is not None:
            reply, self._replies = self._replies[:end], self._replies[end:]
            if self._expected.popleft():
                passed += reply
        return passed


def _end_of_value(data: bytes, start: int = 0) -> int | None:
    """Where the RESP value at `start` ends; None when it is not complete yet."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, end = data[start : start + 1], line + 2
    if kind == b"$":
        size = int(data[start + 1 : line])
        end += max(size + 2, 0) if size >= 0 else 0
        return end if end <= len(data) else None
    if kind in (b"*", b"%", b"~", b">"):
        count = int(data[start + 1 : line]) * (2 if kind == b"%" else 1)
        for _ in range(max(count, 0)):
            inner = _end_of_value(data, end)
            if inner is None:
                return None
            end = inner
    return end
