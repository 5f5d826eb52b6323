"""The http kind against a real local server: results, refusals, bounds, credentials."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from executors.actions.http import HttpAction
from executors.actions.http.addresses import AddressPolicy
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from tests.support.certificates import self_signed


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
            case "/cookie":
                self.reply(200, b"", Set_Cookie="session=1; Path=/")
            case _:
                seen = {
                    "method": self.command,
                    "query": parse_qs(parts.query),
                    "headers": {name.lower(): value for name, value in self.headers.items()},
                    "body": sent.decode(),
                }
                self.reply(200, json.dumps(seen).encode(), Content_Type="application/json; charset=utf-8")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any  # noqa: N815  (http.server finds them by these names)

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
    context = Lent(Path(), cancelled or threading.Event(), CREDENTIALS.__getitem__)
    return action.run(request, context)


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
    ],
)
def test_bodies(
    action: HttpAction, server: str, arguments: dict[str, Any], body: str, content_type: str | None
) -> None:
    seen = run(action, endpoint=f"{server}/", method="post", **arguments)["data"]
    assert seen["body"] == body and seen["headers"].get("content-type") == content_type
    assert seen["headers"]["idempotency-key"] == "e1:s"


def test_a_given_idempotency_key_stays(action: HttpAction, server: str) -> None:
    seen = run(action, url=f"{server}/", method="PUT", headers={"idempotency-key": "mine"})["data"]
    assert seen["headers"]["idempotency-key"] == "mine"


def test_data_of_a_get_is_the_query(action: HttpAction, server: str) -> None:
    assert run(action, url=f"{server}/", data={"a": 1})["data"]["query"] == {"a": ["1"]}


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
