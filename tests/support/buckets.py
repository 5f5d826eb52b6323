"""A local server that speaks as much of S3's protocol as DuckDB asks for: objects are read, sized and put."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit


class Buckets:
    """A running server. `objects` are by `/bucket/key`; `asked` are requests, `signatures` how they were signed."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.signatures: list[str] = []
        self._parts: dict[str, dict[int, bytes]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put_part(self, path: str, number: int, data: bytes) -> None:
        """Keep a part of an upload in parts."""
        self._parts.setdefault(path, {})[number] = data

    def complete(self, path: str) -> None:
        """Make an object of its parts."""
        parts = self._parts.pop(path)
        self.objects[path] = b"".join(parts[number] for number in sorted(parts))


def _handler(buckets: Buckets) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing is said."""

        def _asked(self) -> tuple[str, dict[str, list[str]]]:
            buckets.asked.append(f"{self.command} {self.path}")
            buckets.signatures.append(self.headers.get("Authorization", ""))
            parts = urlsplit(self.path)
            return parts.path, parse_qs(parts.query, keep_blank_values=True)

        def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", headers.get("length", str(len(body))))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_HEAD(self) -> None:
            path, _ = self._asked()
            data = buckets.objects.get(path)
            self._answer(200 if data is not None else 404, data or b"", Accept_Ranges="bytes", ETag='"1"')

        def do_GET(self) -> None:
            path, _ = self._asked()
            data = buckets.objects.get(path)
            if data is None:
                self._answer(404)
            elif wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
                self._answer(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}", ETag='"1"')
            else:
                self._answer(200, data, ETag='"1"')

        def do_PUT(self) -> None:
            path, query = self._asked()
            data = self._body()
            if "partNumber" in query:
                buckets.put_part(path, int(query["partNumber"][0]), data)
            else:
                buckets.objects[path] = data
            self._answer(200, ETag='"1"')

        def do_POST(self) -> None:
            path, query = self._asked()
            self._body()
            if "uploads" in query:
                told = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
                self._answer(200, told)
            else:
                buckets.complete(path)
                self._answer(200, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")

    return Handler
