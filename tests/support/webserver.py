"""An HTTP server for tests, in a thread of this process.

| address | answers |
|---|---|
| `/echo...` | `{method, path, query, headers (lower case), body (JSON, else text)}` of the request |
| `/status/CODE` | that status, with `{code}` |
| `/flaky/KEY/TIMES` | 503 the first TIMES times that it is asked for KEY, then `{asked}` |
| `/busy/KEY/TIMES/SECONDS` | as `/flaky`, and asks to be left alone for so long |
| `/numbers/COUNT` | `{numbers, next}`: some of 0, 1, 2, ...; `page` or `from` says where, `limit` how many (2); |
|                  | `next` is the next page's `from`, which a `Link` header tells too |
| `/table/COUNT` | a CSV table of so many rows, with the columns `n` and `square` |
| `/redirect/PLACE...` | a redirect to that place |
| `/kept/KEY` | POST, PUT and PATCH keep the body there; GET tells `[{method, query, key, body}]`, sorted by |
|             | `key`, the `Idempotency-Key` |
| `/silent` | nothing, as long as the server runs |
| `/tls` | `{url}`: the address of a server as this one, over TLS, whose certificate nobody trusts |
| `/text/COUNT` | that many characters of plain text |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.certificates import self_signed


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def _answer(self) -> None:
        place = urlsplit(self.path)
        # Also where nobody looks at it: a socket that is closed with something unread resets the reply.
        self.sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match place.path.strip("/").split("/"):
            case ["echo", *_]:
                self._json(200, self._echo(place.path, parse_qs(place.query)))
            case ["status", code]:
                self._json(int(code), {"code": int(code)})
            case ["flaky", key, times]:
                asked = self.server.count(key)
                self._json(503 if asked <= int(times) else 200, {"asked": asked})
            case ["busy", key, times, seconds]:
                asked = self.server.count(key)
                status, told = (503, {"Retry-After": seconds}) if asked <= int(times) else (200, {})
                self._send(status, "application/json", json.dumps({"asked": asked}).encode(), **told)
            case ["numbers", count]:
                self._numbers(int(count), parse_qs(place.query))
            case ["table", count]:
                rows = "".join(f"{n},{n * n}\n" for n in range(int(count)))
                self._send(200, "text/csv", f"n,square\n{rows}".encode())
            case ["redirect", *to]:
                self._send(302, "text/plain", b"", Location=f"/{'/'.join(to)}")
            case ["kept", key]:
                self._keep(key, _flat(parse_qs(place.query)))
            case ["silent"]:
                self.server.over.wait()
            case ["tls"]:
                self._json(200, {"url": self.server.tls_address})
            case ["text", count]:
                self._send(200, "text/plain", b"x" * int(count))
            case _:
                self._json(404, {"error": "unknown place"})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  (http.server finds them by these names)

    def _echo(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        flat = _flat(query)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return {"method": self.command, "path": path, "query": flat, "headers": headers, "body": self._body()}

    def _body(self) -> Any:
        text = self.sent.decode()
        try:
            return json.loads(text)
        except ValueError:
            return text

    def _keep(self, key: str, query: dict[str, Any]) -> None:
        kept = self.server.kept.setdefault(key, [])
        if self.command == "GET":
            self._json(200, sorted(kept, key=lambda one: str(one["key"])))
            return
        told = {"method": self.command, "query": query, "key": self.headers.get("Idempotency-Key")}
        kept.append({**told, "body": self._body()})
        self._json(201, {})

    def _numbers(self, count: int, query: dict[str, list[str]]) -> None:
        limit = int(query.get("limit", ["2"])[0])
        page = int(query.get("page", ["1"])[0])
        first = int(query.get("from", [str((page - 1) * limit)])[0])
        last = min(first + limit, count)
        following = last if last < count else None
        told = {} if following is None else {"Link": f"</numbers/{count}?from={last}&limit={limit}>; rel=next"}
        reply = {"numbers": list(range(first, last)), "next": following}
        self._send(200, "application/json", json.dumps(reply).encode(), **told)

    def _json(self, status: int, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, type_: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _flat(query: dict[str, list[str]]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else values for name, values in query.items()}


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = Lock()
        self._asked: Counter[str] = Counter()
        self.over = Event()
        self.kept: dict[str, list[dict[str, Any]]] = {}
        self.tls_address = ""

    def count(self, key: str) -> int:
        with self._lock:
            self._asked[key] += 1
            return self._asked[key]


@contextmanager
def running_webserver() -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    server, secured = _Server(), _Server()
    secured.socket = self_signed().wrap_socket(secured.socket, server_side=True)
    server.tls_address = f"https://127.0.0.1:{secured.server_address[1]}"
    threads = [Thread(target=one.serve_forever, daemon=True) for one in (server, secured)]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        for one in (server, secured):
            one.over.set()
            one.shutdown()
            one.server_close()
        for thread in threads:
            thread.join()
