"""A local HTTP server whose answers a test writes, and which keeps what it was asked."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came; names of headers are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, str]:
        """The first value of each name in the query."""
        return {name: values[0] for name, values in self.query.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: JSON, unless it is bytes."""

    data: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """`answer` makes the reply to each request; `asked` has all of them."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        # An empty address: every one of 127.0.0.0/8 leads here, which makes several hosts of one server.
        super().__init__(("", 0), _Handler)
        self.answer = answer
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """Its address."""
        return self.on("127.0.0.1")

    def on(self, host: str) -> str:
        """Its address by another host's name."""
        return f"http://{host}:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _reply(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, parts.path, parse_qs(parts.query), headers, body)
        self.server.asked.append(asked)
        answer = self.server.answer(asked)
        is_bytes = isinstance(answer.data, bytes)
        written = answer.data if is_bytes else json.dumps(answer.data).encode()
        told = {"Content-Type": "application/octet-stream" if is_bytes else "application/json", **answer.headers}
        # Without the date and the name of the server that it would add: a test writes all headers.
        self.send_response_only(answer.status)
        for name, value in told.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(written)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _reply  # noqa: N815  (http.server finds them by these names)


@contextmanager
def answering(answer: Callable[[Asked], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that answers so, meanwhile; with `tls` to clients that speak it."""
    server = Server(answer)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
