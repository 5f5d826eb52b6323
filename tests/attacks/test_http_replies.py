"""Hostile replies to http steps. The law is in the README beside this file."""

from __future__ import annotations

import base64
import gzip
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

import pytest

from executors.actions.http import HttpAction
from tests.support.answering import Answer, Server, answering
from tests.support.http_attacks import REFUSED, SECRET, attack, is_alive

# -- replies -------------------------------------------------------------------------------------------------

OK: Final = b"HTTP/1.1 200 OK\r\n"
JSON: Final = OK + b"Content-Type: application/json\r\n"


def forever(piece: bytes, pause: float = 0.0) -> Callable[[socket.socket, Event], None]:
    """The same piece again and again."""

    def write(connected: socket.socket, over: Event) -> None:
        while not over.wait(pause):
            connected.sendall(piece)

    return write


def silence(connected: socket.socket, over: Event) -> None:
    """Says nothing."""
    over.wait(5)


def once(text: bytes) -> Callable[[socket.socket, Event], None]:
    """A piece, and the end."""
    return lambda connected, over: connected.sendall(text)


def both(
    first: Callable[[socket.socket, Event], None], then: Callable[[socket.socket, Event], None]
) -> Callable[[socket.socket, Event], None]:
    """One after the other."""

    def write(connected: socket.socket, over: Event) -> None:
        first(connected, over)
        then(connected, over)

    return write


def packed(times: int, data: bytes) -> bytes:
    for _ in range(times):
        data = gzip.compress(data)
    return data


def whole(body: bytes, *headers: bytes, start: bytes = OK) -> Callable[[socket.socket, Event], None]:
    told = b"".join(header + b"\r\n" for header in (*headers, b"Content-Length: %d" % len(body)))
    return once(start + told + b"\r\n" + body)


ZEROS: Final = bytes(50_000_000)
GZIP: Final = b"Content-Encoding: gzip"
REPLIES: Final[dict[str, Callable[[socket.socket, Event], None]]] = {
    "nothing": once(b""),
    "silence": silence,
    "no HTTP": once(b"SSH-2.0-OpenSSH\r\n"),
    "HTTP/0.9": once(b"<html>hello"),
    "a bad status": once(b"HTTP/1.1 abc OK\r\n\r\n"),
    "a status of 9 digits": once(b"HTTP/1.1 999999999 OK\r\n\r\n"),
    "a negative status": once(b"HTTP/1.1 -20 OK\r\n\r\n"),
    "an endless status line": forever(b"H" * 65_536),
    "an endless header": both(once(OK + b"X: "), forever(b"x" * 65_536)),
    "endless headers": both(once(OK), forever(b"X: x\r\n" * 1000)),
    "large headers": once(OK + b"".join(b"X%d: %s\r\n" % (n, b"x" * 60_000) for n in range(90)) + b"\r\n"),
    "dripping headers": both(once(OK), forever(b"X: x\r\n", 0.05)),
    "endless continues": forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a dripping body": both(once(OK + b"Content-Length: 1000000\r\n\r\n"), forever(b"x", 0.05)),
    "a dripping body of no length": both(once(OK + b"\r\n"), forever(b"x", 0.05)),
    "an endless body": both(once(OK + b"\r\n"), forever(b"x" * 65_536)),
    "a body shorter than told": once(OK + b"Content-Length: 100\r\n\r\nx"),
    "a body longer than told": once(OK + b"Content-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\nsmuggled"),
    "a length of many digits": once(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx"),
    "a negative length": once(OK + b"Content-Length: -5\r\n\r\nx"),
    "two lengths": once(OK + b"Content-Length: 1\r\nContent-Length: 5\r\n\r\nx"),
    "a length and chunks": once(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    "an endless chunk size": both(once(OK + b"Transfer-Encoding: chunked\r\n\r\n"), forever(b"1" * 65_536)),
    "a huge chunk": both(once(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n"), forever(b"x" * 65_536)),
    "a negative chunk": once(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nx\r\n"),
    "dripping chunks": both(once(OK + b"Transfer-Encoding: chunked\r\n\r\n"), forever(b"1\r\nx\r\n", 0.02)),
    "endless trailers": both(once(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"), forever(b"X: x\r\n" * 1000)),
    "a zip bomb": whole(packed(1, ZEROS), GZIP),
    "a bomb in a bomb": whole(packed(2, ZEROS), b"Content-Encoding: gzip, gzip"),
    "a bomb of many layers": whole(packed(2, ZEROS), b"Content-Encoding: " + b", ".join([b"gzip"] * 500)),
    "a deflate bomb": whole(zlib.compress(ZEROS), b"Content-Encoding: deflate"),
    "a bomb in a redirect": once(
        b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Encoding: gzip\r\n\r\n" + packed(1, ZEROS)
    ),
    "an endless redirect": both(
        once(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n"), forever(b"x" * 65_536)
    ),
    "no gzip": whole(b"hello", GZIP),
    "half a gzip": whole(packed(1, b"x" * 1000)[:-12], GZIP),
    "an unknown encoding": whole(b"hello", b"Content-Encoding: evil"),
    "deep JSON": whole(b"[" * 200_000, start=JSON),
    "closed deep JSON": whole(b"[" * 5000 + b"]" * 5000, start=JSON),
    "a long number": whole(b"9" * 500_000, start=JSON),
    "a large exponent": whole(b"1e999999", start=JSON),
    "no number": whole(b"[NaN, Infinity]", start=JSON),
    "half a surrogate": whole(b'"\\ud800"', start=JSON),
    "NUL": whole(b'"\\u0000"', start=JSON),
    "a key twice": whole(b'{"a": 1, "a": 2}', start=JSON),
    "bytes": whole(bytes(range(256))),
    "NUL in a header": whole(b"x", b"X-Own: a\x00b"),
    "folded headers": whole(b"x", b"X-Own: a\r\n  b"),
    "a bare line feed in a header": whole(b"x", b"X-Own: a\rX-Other: b"),
    "a quadratic charset": whole(b"a" * 900_000, b"Content-Type: text/plain; charset=punycode"),
    "another charset": whole(b"+2AA-", b"Content-Type: text/plain; charset=utf-7"),
    "cookies for others": whole(b"x", b"Set-Cookie: a=b; Domain=127.0.0.2; Path=/"),
    "a long reason": once(b"HTTP/1.1 500 " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n"),
    "a template": whole(b'{"a": "{{ secret.x }} {% for x in y %}"}', start=JSON),
}
HARMLESS: Final = {
    "HTTP/0.9": None,
    "a body longer than told": None,
    "a length and chunks": None,
    "a negative length": None,
    "a length of many digits": "x",
    "a key twice": {"a": 2},
    "bytes": None,
    "folded headers": None,
    "a bare line feed in a header": None,
    "another charset": "+2AA-",
    "a quadratic charset": None,
    "cookies for others": "x",
    "deep JSON": None,
    "closed deep JSON": None,
    "a long number": None,
    "a template": {"a": "{{ secret.x }} {% for x in y %}"},
}
"""Replies of which a result may come, and what it is where that says something."""
HARMLESS_IN_FILES: Final = HARMLESS.keys() | {
    "no number",
    "a large exponent",
    "half a surrogate",
    "NUL",
    "NUL in a header",
}
"""Those that make a file."""


@contextmanager
def raw_server(write: Callable[[socket.socket, Event], None]) -> Iterator[str]:
    """A server that writes to whoever asks whatever it likes."""
    over = Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            with connected:
                connected.settimeout(5)
                try:
                    connected.recv(65_536)
                    write(connected, over)
                except OSError:
                    continue

    thread = Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("download", [False, True])
def test_hostile_replies(action: HttpAction, listening: Server, tmp_path: Path, name: str, download: bool) -> None:
    with raw_server(REPLIES[name]) as url:
        outcome = attack(action, tmp_path, url=url, download=download)
    if outcome.status == "success":
        assert name in (HARMLESS_IN_FILES if download else HARMLESS), outcome.data
        assert download or HARMLESS[name] in (None, outcome.data["data"])
    else:
        assert not list(tmp_path.rglob("*.data"))
    is_alive(action, listening)


@pytest.mark.parametrize(
    "link",
    [
        "<http://10.0.0.1/>; rel=next",
        "<http://169.254.169.254/>; rel=next",
        "<file:///etc/passwd>; rel=next",
        "<//10.0.0.1/>; rel=next",
        "<http://a:b@127.0.0.1/>; rel=next",
        "<" * 30_000,
        "<>; rel=next",
        "<a>; rel=next; rel=next, <b>; rel=next",
        ", ".join(f"<{n}>; rel=next" for n in range(2000)),
    ],
)
def test_hostile_links(action: HttpAction, link: str) -> None:
    with answering(lambda asked: Answer([1], headers={"Link": link})) as server:
        outcome = attack(action, url=server.url, pagination={"type": "link", "max_pages": 3}, auth="api")
        assert outcome.status == "success" or outcome.code in {*REFUSED, "pagination_invalid"}
        assert len(server.asked) <= 3


def test_a_bomb_is_not_unpacked_into_a_file(action: HttpAction, listening: Server, tmp_path: Path) -> None:
    with raw_server(REPLIES["a zip bomb"]) as url:
        outcome = attack(action, tmp_path, url=url, download=True)
    assert outcome.code == "output_too_large" and list((tmp_path / "files" / "e1").iterdir()) == []


def test_what_a_server_echoes_of_a_secret_is_hidden(action: HttpAction) -> None:
    forms = [SECRET, base64.b64encode(f"Bearer {SECRET}".encode()).decode()]
    with answering(lambda asked: Answer({"got": asked.headers["authorization"], "forms": forms[:1]})) as server:
        outcome = attack(action, url=server.url, auth="api")
    assert SECRET not in str(outcome)
