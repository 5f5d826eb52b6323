"""The http kind against a real local server: results, refusals, bounds, credentials."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from executors.actions.http import HttpAction
from executors.actions.http.arguments import HttpArguments
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from executors.stores import http_transport as transport
from executors.stores.http_addresses import AddressPolicy
from tests.support.answering import Answer, answering
from tests.support.certificates import self_signed
from tests.support.inspection import wait_for


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    release = threading.Event()

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match parts.path:
            case "/redirect":
                self.reply(302, b"", Location=parse_qs(parts.query)["to"][0])
            case "/loop":
                self.reply(302, b"", Location="/loop")
            case "/status":
                self.reply(404, b'{"why": "gone"}', Content_Type="application/json")
            case "/bad-json":
                self.reply(200, b"{nope", Content_Type="application/json")
            case "/bomb":
                self.reply(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")
            case "/large":
                self.reply(200, bytes(2_000_000))
            case "/drip":
                self.drip()
            case "/moved":
                self.reply(int(parse_qs(parts.query)["status"][0]), b"", Location="/there?from=here")
            case "/odd-charset":
                self.reply(200, "größe".encode(), Content_Type=f"text/plain; charset={parse_qs(parts.query)['is'][0]}")
            case "/many-headers":
                self.reply(200, b"x", **{f"X_{number}": "x" * 1000 for number in range(70)})
            case "/cookie":
                self.reply(200, b"", Set_Cookie="session=1; Path=/")
            case _:
                seen = {
                    "method": self.command,
                    "query": parse_qs(parts.query),
                    "headers": {name.lower(): value for name, value in self.headers.items()},
                    "body": sent.decode("latin-1"),
                }
                self.reply(200, json.dumps(seen).encode(), Content_Type="application/json; charset=utf-8")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815  (http.server finds them by these names)
    do_HEAD = do_OPTIONS = do_PURGE = handle_any  # noqa: N815  (and by these)

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not Handler.release.wait(0.1):
            try:
                self.wfile.write(b"x")
            except OSError:
                return


@contextmanager
def serving(server: Server) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    Handler.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(Server(("", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def secured() -> Iterator[str]:
    server = Server(("", 0), Handler)
    server.socket = self_signed().wrap_socket(server.socket, server_side=True)
    with serving(server) as port:
        yield f"https://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def action() -> Iterator[HttpAction]:
    action = HttpAction(["127.0.0.0/8"], max_bytes=1_000_000)
    yield action
    action.close()


CREDENTIALS = {
    "bearer": Credential("bearer", "bearer", {"token": "t0ken-value"}),
    "basic": Credential("basic", "basic", {"username": "u", "password": "pw"}),
    "api_key": Credential("api_key", "api_key", {"value": "k3y-value"}),
    "header": Credential("header", "header", {"name": "X-Own", "value": "own-value"}),
    "wrong": Credential("wrong", "postgres", {}),
}


def run(action: HttpAction, *, timeout: float = 10, cancelled: threading.Event | None = None, **arguments: Any) -> Any:
    request = ActionRequest("http", arguments, {}, "e1", "e1:s", "s", 1, "e1:s", timeout)
    return action.run(request, Lent(Path(), cancelled or threading.Event(), CREDENTIALS.__getitem__))


def failure(action: HttpAction, **arguments: Any) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        run(action, **arguments)
    return caught.value


def test_result_shape(action: HttpAction, server: str) -> None:
    result = run(action, url=f"{server}/x", params={"q": "a b"})
    assert set(result) == {"status_code", "headers", "url", "elapsed", "data"}
    assert result["status_code"] == 200 and result["url"] == f"{server}/x?q=a+b"
    assert result["data"]["query"] == {"q": ["a b"]} and "idempotency-key" not in result["data"]["headers"]


@pytest.mark.parametrize(
    ("arguments", "body", "content_type"),
    [
        ({"payload": {"a": 1}}, '{"a": 1}', "application/json"),
        ({"json": [1]}, "[1]", "application/json"),
        ({"body": "raw"}, "raw", None),
        ({"data": {"body": {"a": 1}, "query": {"q": 1}}}, '{"a": 1}', "application/json"),
        (
            {"payload": {"a": "b c"}, "headers": {"content-type": "application/x-www-form-urlencoded"}},
            "a=b+c",
            "application/x-www-form-urlencoded",
        ),
        (
            {"payload": '{"a":1}', "headers": {"Content-Type": "application/json"}},
            '{"a":1}',
            "application/json",
        ),
        (
            {"form": {"a": ["b", 1], "c": None, "d": True, "e": {"f": 1}}},
            "a=b&a=1&d=true&e=%7B%22f%22%3A+1%7D",
            "application/x-www-form-urlencoded",
        ),
        ({"data": {"a": 1}}, '{"a": 1}', "application/json"),
        ({"payload": [1, "two"]}, '[1, "two"]', "application/json"),
        ({"json": "text"}, '"text"', "application/json"),
        ({"json": {}}, "{}", "application/json"),
        (
            {"json": {"a": 1}, "headers": {"CONTENT-TYPE": "application/vnd.api+json"}},
            '{"a": 1}',
            "application/vnd.api+json",
        ),
        ({}, "", None),
    ],
)
def test_bodies(
    action: HttpAction, server: str, arguments: dict[str, Any], body: str, content_type: str | None
) -> None:
    seen = run(action, endpoint=f"{server}/", method="post", **arguments)["data"]
    assert seen["body"] == body and seen["headers"].get("content-type") == content_type
    assert seen["headers"]["idempotency-key"] == "e1:s"


@pytest.mark.parametrize(
    ("method", "node", "key"),
    [
        ("GET", "s", None),
        ("HEAD", "s", None),
        ("OPTIONS", "s", None),
        ("POST", "s", "e1:s"),
        ("DELETE", "s:3", "e1:s:3"),
        ("PURGE", "s#2", "e1:s#2"),
        ("PUT", "größe", "e1:gr%C3%B6%C3%9Fe"),
    ],
)
def test_writes_have_a_key_which_is_the_same_for_every_attempt(
    action: HttpAction, server: str, method: str, node: str, key: str | None
) -> None:
    keys = set()
    for attempt in (1, 2):
        arguments = {"url": f"{server}/", "method": method}
        request = ActionRequest("http", arguments, {}, "e1", f"e1:{node}", node, attempt, f"e1:{node}", 10)
        seen = action.run(request, Lent(Path(), threading.Event(), pytest.fail))["data"]
        keys.add(seen["headers"].get("idempotency-key") if seen else None)
    assert keys == {key}


def test_multipart(action: HttpAction, server: str) -> None:
    parts = {
        "note": "hello",
        "order": {"id": 7},
        "report": {"text": "a,b", "filename": "r.csv", "content_type": "text/csv"},
        "image": [{"base64": "AAEC", "filename": 'a"b.png', "content_type": "image/png"}, {"base64": ""}],
        "empty": None,
    }
    seen = run(action, url=f"{server}/", method="POST", multipart=parts, headers={"Content-Type": "multipart/x"})[
        "data"
    ]
    boundary = seen["headers"]["content-type"].removeprefix("multipart/form-data; boundary=")
    got = [part.strip("\r\n") for part in seen["body"].split(f"--{boundary}")][1:-1]
    assert got == [
        'Content-Disposition: form-data; name="note"\r\n\r\nhello',
        'Content-Disposition: form-data; name="order"\r\n\r\n{"id": 7}',
        'Content-Disposition: form-data; name="report"; filename="r.csv"\r\nContent-Type: text/csv\r\n\r\na,b',
        'Content-Disposition: form-data; name="image"; filename="a%22b.png"\r\n'
        "Content-Type: image/png\r\n\r\n\x00\x01\x02",
        'Content-Disposition: form-data; name="image"',
    ]


def test_a_payload_by_its_content_type_is_multipart_too(action: HttpAction, server: str) -> None:
    headers = {"content-type": "multipart/form-data"}
    seen = run(action, url=f"{server}/", method="POST", payload={"a": "b"}, headers=headers)["data"]
    assert 'name="a"\r\n\r\nb\r\n' in seen["body"] and "boundary=" in seen["headers"]["content-type"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("word", ["json", "body", "form", "multipart"])
def test_a_body_where_there_is_none_is_refused(action: HttpAction, method: str, word: str) -> None:
    error = failure(action, url="http://127.0.0.1:1/", method=method, **{word: {"a": 1}})
    assert error.code == "arguments_invalid" and word in str(error)


def test_a_delete_may_have_a_body_and_a_payload_is_none(action: HttpAction, server: str) -> None:
    assert run(action, url=f"{server}/", method="DELETE", json={"a": 1})["data"]["body"] == '{"a": 1}'
    assert run(action, url=f"{server}/", method="DELETE", payload={"a": 1})["data"]["body"] == ""


def test_queries_are_texts(action: HttpAction, server: str) -> None:
    seen = run(action, url=f"{server}/?z=0", params={"a": [1, "b"], "c": True, "d": None, "e": {"f": 1}})["data"]
    assert seen["query"] == {"z": ["0"], "a": ["1", "b"], "c": ["true"], "e": ['{"f": 1}']}


@pytest.mark.parametrize(
    ("status", "method", "expected", "body"),
    [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (307, "POST", "POST", '{"a": 1}'),
        (308, "PUT", "PUT", '{"a": 1}'),
        (301, "PUT", "PUT", '{"a": 1}'),
        (302, "DELETE", "DELETE", '{"a": 1}'),
    ],
)
def test_what_a_redirect_makes_of_a_request(
    action: HttpAction, server: str, status: int, method: str, expected: str, body: str
) -> None:
    result = run(action, url=f"{server}/moved", params={"status": status}, method=method, json={"a": 1})
    seen = result["data"]
    assert (seen["method"], seen["body"]) == (expected, body) and seen["query"] == {"from": ["here"]}
    assert ("content-type" in seen["headers"]) is bool(body)
    assert result["url"] == f"{server}/there?from=here"


def test_a_redirect_is_a_reply_when_it_is_not_followed(action: HttpAction, server: str) -> None:
    error = failure(action, url=f"{server}/moved", params={"status": 302}, allow_redirects=False)
    assert (error.code, error.data["status_code"]) == ("http_status", 302)


@pytest.mark.parametrize(
    "charset", ["utf-8", "x-unknown", "punycode", "idna", "zlib", "utf-7", "a%00b", "..", "unicode_escape"]
)
def test_odd_charsets_are_read_as_utf_8(action: HttpAction, server: str, charset: str) -> None:
    assert run(action, url=f"{server}/odd-charset?is={charset}")["data"] == "größe"


def test_a_known_charset_is_used(action: HttpAction, server: str) -> None:
    assert run(action, url=f"{server}/odd-charset?is=ISO-8859-1")["data"] == "größe".encode().decode("latin-1")


def test_headers_are_bounded(action: HttpAction, server: str) -> None:
    assert failure(action, url=f"{server}/many-headers").code == "http_reply"


def test_a_given_idempotency_key_stays(action: HttpAction, server: str) -> None:
    seen = run(action, url=f"{server}/", method="PUT", headers={"idempotency-key": "mine"})["data"]
    assert seen["headers"]["idempotency-key"] == "mine"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_data_of_a_get_is_the_query(action: HttpAction, server: str, method: str) -> None:
    seen = run(action, url=f"{server}/", method=method, data={"a": 1})["data"]
    assert seen["query"] == {"a": ["1"]} and seen["body"] == ""


def test_what_counts_when_a_step_says_only_an_address(action: HttpAction, server: str) -> None:
    assert HttpArguments.check({"url": server}).timeout == 30
    seen = run(action, url=f"{server}/")["data"]
    assert seen["method"] == "GET" and seen["body"] == "" and seen["query"] == {}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://shop.local/"])
def test_no_reply_is_an_error_and_never_made_up(action: HttpAction, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The original had settings that gave developers a reply without a server."""
    for name in ("NOETL_HTTP_MOCK_LOCAL", "NOETL_HTTP_MOCK_ON_ERROR", "NOETL_DEBUG"):
        monkeypatch.setenv(name, "true")
    real = socket.getaddrinfo

    def find(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "shop.local":
            raise socket.gaierror(socket.EAI_NONAME, "nobody of this name")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    error = failure(action, url=url)
    assert error.code == "http_connection" and str(error).startswith("Request error: ") and error.data is None


def test_an_error_status_keeps_its_data(action: HttpAction, server: str) -> None:
    error = failure(action, url=f"{server}/status")
    assert (error.code, str(error)) == ("http_status", "HTTP 404: Not Found")
    assert error.data["data"] == {"why": "gone"} and error.data["status_code"] == 404


def test_malformed_json_is_text(action: HttpAction, server: str) -> None:
    assert run(action, url=f"{server}/bad-json")["data"] == "{nope"


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("bearer", "authorization", "Bearer t0ken-value"),
        ("basic", "authorization", "Basic dTpwdw=="),
        ("api_key", "x-api-key", "k3y-value"),
        ("header", "x-own", "own-value"),
    ],
)
def test_credentials(action: HttpAction, server: str, name: str, header: str, value: str) -> None:
    assert run(action, url=f"{server}/", auth=name)["data"]["headers"][header] == value
    port = urlsplit(server).port
    moved = run(action, url=f"{server}/redirect", params={"to": f"http://127.0.0.2:{port}/x"}, auth=name)
    assert moved["url"].startswith("http://127.0.0.2") and header not in moved["data"]["headers"]
    same = run(action, url=f"{server}/redirect", params={"to": "/x"}, auth=name)
    assert same["data"]["headers"][header] == value, "the same host keeps it"


def test_a_credential_of_another_kind_is_refused(action: HttpAction, server: str) -> None:
    assert failure(action, url=f"{server}/", auth="wrong").code == "credential_invalid"


def test_a_secret_is_not_in_the_error(action: HttpAction) -> None:
    error = failure(action, url="http://127.0.0.1:1/t0ken-value", auth="bearer")
    assert error.code == "http_connection" and "t0ken-value" not in str(error)


def test_private_addresses_are_refused_by_default(server: str) -> None:
    port = urlsplit(server).port
    action = HttpAction()
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1"):
        error = failure(action, url=f"http://{host}:{port}/")
        assert error.code == "http_connection" and "is not a public address" in str(error), host
    assert "not a public address" in str(failure(action, url="http://169.254.169.254/latest/meta-data"))


def test_a_redirect_to_a_refused_address_is_refused(action: HttpAction, server: str) -> None:
    for target in ("http://169.254.169.254/", "http://10.0.0.1/", "http://[::1]:1/"):
        error = failure(action, url=f"{server}/redirect", params={"to": target})
        assert "not a public address" in str(error)
    assert failure(action, url=f"{server}/redirect", params={"to": "file:///etc/passwd"}).code == "http_connection"


def test_redirects_are_bounded(action: HttpAction, server: str) -> None:
    error = failure(action, url=f"{server}/loop")
    assert error.code == "http_connection" and "redirects" in str(error)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("fd00:ec2::254", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("2002:a9fe:a9fe::", False),
        ("::127.0.0.1", False),
        ("2001:db8::1", False),
        ("192.0.2.1", False),
    ],
)
def test_address_policy(address: str, allowed: bool) -> None:
    assert AddressPolicy().allows(address) is allowed


def test_named_networks_are_allowed() -> None:
    policy = AddressPolicy(["10.1.0.0/16", "fd00::/8"])
    assert policy.allows("10.1.2.3") and policy.allows("::ffff:10.1.2.3") and policy.allows("fd00::1")
    assert not policy.allows("10.2.0.1")


@pytest.mark.parametrize("url", ["ftp://example.org/", "file:///etc/passwd", "example.org", "http://", "gopher://x"])
def test_other_schemes_are_refused(action: HttpAction, url: str) -> None:
    assert failure(action, url=url).code == "arguments_invalid"


@pytest.mark.parametrize("path", ["/bomb", "/large"])
def test_replies_are_bounded(action: HttpAction, server: str, path: str) -> None:
    assert failure(action, url=server + path).code == "output_too_large"


PACKED = gzip.compress(b"one ", mtime=0) + gzip.compress(b"two", mtime=0)
RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("encoding", "packed", "text"),
    [
        ("gzip", PACKED, "one two"),
        ("x-gzip", PACKED + bytes(512), "one two"),
        ("GZIP", gzip.compress(b"x" * 500_000, mtime=0), "x" * 500_000),
        ("deflate", zlib.compress(b"framed"), "framed"),
        ("deflate", RAW.compress(b"bare") + RAW.flush(), "bare"),
        ("gzip", b"", ""),
        ("identity", b"plain", "plain"),
    ],
)
def test_packed_replies(action: HttpAction, encoding: str, packed: bytes, text: str) -> None:
    with answering(lambda asked: Answer(packed, headers={"Content-Encoding": encoding})) as packing:
        assert run(action, url=packing.url)["data"] == text


@pytest.mark.parametrize("packed", [PACKED[:-1], PACKED[:10], b"no gzip", PACKED[:16] + b"?" + PACKED[17:]])
def test_broken_packed_replies(action: HttpAction, packed: bytes) -> None:
    with answering(lambda asked: Answer(packed, headers={"Content-Encoding": "gzip"})) as packing:
        error = failure(action, url=packing.url)
    assert error.code == "http_connection" and "compressed reply" in str(error)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_encodings_that_nobody_asked_for(action: HttpAction, encoding: str) -> None:
    with answering(lambda asked: Answer(b"x", headers={"Content-Encoding": encoding})) as packing:
        assert failure(action, url=packing.url).code == "http_reply"


def test_a_dripping_server_is_cut_off(action: HttpAction, server: str) -> None:
    assert failure(action, url=f"{server}/drip", timeout=0.5).code == "timeout"


def test_a_server_over_tls(action: HttpAction, secured: str) -> None:
    for _ in range(2):
        # The second time on the connection of the first.
        assert run(action, url=f"{secured}/", verify=False)["status_code"] == 200
    assert failure(action, url=f"{secured}/drip", verify=False, timeout=0.5).code == "timeout"
    refused = failure(action, url=f"{secured}/")
    assert refused.code == "http_connection" and "certificate" in str(refused)


def test_cancel_ends_the_request(action: HttpAction, server: str) -> None:
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    with pytest.raises(ActionFailed) as caught:
        run(action, url=f"{server}/drip", cancelled=cancelled)
    assert caught.value.code == "cancelled"


def test_the_watch_ends_when_nothing_is_asked_and_begins_again(
    action: HttpAction, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "IDLE_LOOKS", 0)
    run(action, url=f"{server}/")
    wait_for(lambda: all(thread.name != "http-watch" for thread in threading.enumerate()), 5)
    assert failure(action, url=f"{server}/drip", timeout=0.3).code == "timeout"


def test_nothing_is_taken_from_the_environment(
    action: HttpAction, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert run(action, url=f"{server}/")["status_code"] == 200


def test_cookies_do_not_pass_from_job_to_job(action: HttpAction, server: str) -> None:
    run(action, url=f"{server}/cookie")
    assert "cookie" not in run(action, url=f"{server}/")["data"]["headers"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"url": "http://a", "endpoint": "http://b"},
        {"url": "http://a", "x": 1},
        {"url": "http://a", "json": {"a": 1}, "data": {"b": 1}},
    ],
)
def test_arguments_are_checked(action: HttpAction, arguments: dict[str, Any]) -> None:
    assert failure(action, **arguments).code == "arguments_invalid"
