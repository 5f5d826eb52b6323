"""A local HTTP server in a process of its own, and bare calls to it: what a request costs when nothing else is done."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import requests

ANSWER: Final = b'{"n": 1}'


@contextmanager
def web_server() -> Iterator[str]:
    """The address of a server that answers JSON until the block ends."""
    process = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def calls(url: str, count: int) -> float:
    """Seconds of so many calls by `requests`, on one kept connection, each reply read as JSON."""
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=10).json()
        begun = time.perf_counter()
        for _ in range(count):
            session.get(url, timeout=10).json()
        return time.perf_counter() - begun


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answers."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
