"""Hostile addresses, redirects and headers of http steps. The law is in the README beside this file.

Nothing here asks a resolver: what a name stands for is told to the test's own process.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

import pytest

from executors.actions.http import HttpAction
from executors.contract import Outcome
from tests.support.answering import Answer, Asked, Server, answering
from tests.support.http_attacks import REFUSED, SECRET, attack, is_alive

# -- addresses that lead inside ----------------------------------------------------------------------------

LOOPBACK: Final = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7F.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "0177.0x0.0.01",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:0001]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[2001:db8::5efe:127.0.0.1]",
    "[2607:f8b0::200:5efe:7f00:1]",
    "[::1%25lo]",
    "[fe80::1%25eth0]",
    "[fe80::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "\uff11\uff12\uff17.0.0.1",
]
PRIVATE: Final = [
    "10.0.0.1",
    "10.255.255.255",
    "167772161",
    "0xa000001",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "198.18.0.1",
    "192.0.2.1",
    "203.0.113.7",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "[fc00::1]",
    "[fd12:3456::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[100::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[2001:db8::1]",
    "[64:ff9b::10.0.0.1]",
    "[2002:a00:1::1]",
    "[::ffff:192.168.0.1]",
]
METADATA: Final = [
    "169.254.169.254",
    "169.254.170.2",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
]


@pytest.mark.parametrize("host", [*LOOPBACK, *PRIVATE, *METADATA])
def test_addresses_that_lead_inside(guarded: HttpAction, inside: Server, host: str) -> None:
    before = len(inside.asked)
    outcome = attack(guarded, url=f"http://{host}:{inside.server_port}/latest/meta-data")
    assert outcome.status == "error" and outcome.code in REFUSED, outcome
    assert len(inside.asked) == before


@pytest.mark.parametrize("host", [*LOOPBACK[5:10], "10.0.0.1", *METADATA])
def test_redirects_that_lead_inside(action: HttpAction, host: str) -> None:
    with answering(
        lambda asked: Answer(status=302, headers={"Location": f"http://{host}/"} if "go" in asked.path else {})
    ) as server:
        # What 127.0.0.1 is allowed for, its other spellings are, too; nothing else is.
        host_is_allowed = host in LOOPBACK
        outcome = attack(action, url=f"{server.url}/go", auth="api")
        assert outcome.code == "http_connection", outcome
        assert host_is_allowed or "not a public address" in outcome.message


# -- names that stand for addresses inside -------------------------------------------------------------------

Found = list[tuple[Any, ...]]


@contextmanager
def resolving(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], list[str]]) -> Iterator[list[str]]:
    """Names stand for what is told. Gives the names that were asked for."""
    real, asked = socket.getaddrinfo, list[str]()

    def find(host: str, port: int, *, type: int, flags: int = 0) -> Found:
        if flags & socket.AI_NUMERICHOST:
            return list(real(host, port, type=type, flags=flags))
        asked.append(host)
        return [entry for address in told(host) for entry in real(address, port, type=type)]

    monkeypatch.setattr(socket, "getaddrinfo", find)
    yield asked
    monkeypatch.undo()


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["fd00:ec2::254"], ["::ffff:10.0.0.1", "fc00::1"]],
)
def test_names_that_stand_for_addresses_inside(
    guarded: HttpAction, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    with resolving(monkeypatch, lambda host: addresses):
        outcome = attack(guarded, url="http://innocent.example.com/")
    assert outcome.code == "http_connection" and "not a public address" in outcome.message


def test_of_several_addresses_only_the_allowed_is_asked(
    action: HttpAction, inside: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with resolving(monkeypatch, lambda host: ["127.0.0.2", "10.0.0.1", "127.0.0.1"]):
        outcome = attack(action, url=f"http://mixed.example.com:{inside.server_port}/mixed")
    assert outcome.status == "success", outcome
    assert inside.asked[-1].path == "/mixed"


def test_a_name_that_changes_its_mind_is_asked_once(
    action: HttpAction, inside: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.3"]])
    with resolving(monkeypatch, lambda host: next(answers)) as asked:
        outcome = attack(action, url=f"http://rebinding.example.com:{inside.server_port}/rebound")
    assert outcome.status == "success" and asked == ["rebinding.example.com"]


def test_a_resolver_that_never_answers(guarded: HttpAction, monkeypatch: pytest.MonkeyPatch) -> None:
    release = Event()

    def hang(host: str) -> list[str]:
        release.wait(10)
        return []

    with resolving(monkeypatch, hang):
        outcome = attack(guarded, url="http://slow.example.com/")
        release.set()
    assert outcome.code == "timeout"


# -- what is no address --------------------------------------------------------------------------------------

SCHEMES: Final = [
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:6379/info",
    "ldap://127.0.0.1/",
    "jar:http://127.0.0.1!/",
    "data:text/plain,hello",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "ws://127.0.0.1/",
    "//127.0.0.1/",
    "/etc/passwd",
    "127.0.0.1",
    "http:",
    "http:/",
    "http://",
    "http:///etc/passwd",
    "http:127.0.0.1",
    "http://:80/",
    "http://?x",
    "http://#x",
]
TRICKS: Final = [
    "http://user:pa55word@{host}/",
    "http://example.com@{host}/",
    "http://{host}@example.com/",
    "http://example.com:80@{host}/",
    "http://@{host}/",
    "http://example.com\\@{host}/",
    "http://{host}\\.example.com/",
    "http://{host}\r\nX-Injected: 1/",
    "http://{host}/\r\nX-Injected: 1",
    "http://{host}/ HTTP/1.1\r\nX-Injected: 1\r\n\r\nGET /second",
    "http://{host}/\nX-Injected: 1",
    "http://{host}/\x00",
    "http://{host}/\x7f",
    "http://{host}\t/",
    "http://[{host}]/",
    "http://[::1/",
    "http://[]/",
    "http://[::1]x/",
    "http://{host}:99999/",
    "http://{host}:-1/",
    "http://{host}:0/",
    "http://{host}:80:80/",
    "http://{host}:abc/",
    "http://exa mple.com/",
    "http://*.example.com/",
    "http://.example.com/",
    "http://%31%32%37.0.0.1/",
    "http://example.com%00@{host}/",
    "http://" + "a" * 64 + ".example.com/",
    "http://" + "a." * 200 + "com/",
    "http://" + "a" * 70_000,
    "http://xn--/",
    "http://\ud800.example.com/",
]


@pytest.mark.parametrize("url", [*SCHEMES, *TRICKS])
def test_what_is_no_address(guarded: HttpAction, inside: Server, url: str) -> None:
    before = len(inside.asked)
    outcome = attack(guarded, url=url.replace("{host}", f"127.0.0.1:{inside.server_port}"))
    assert outcome.status == "error" and outcome.code in REFUSED, outcome
    assert "pa55word" not in outcome.message and len(inside.asked) == before


@pytest.mark.parametrize("url", [1, [], {}, True, None, "", " "])
def test_what_is_no_text(guarded: HttpAction, url: Any) -> None:
    assert attack(guarded, url=url).code == "arguments_invalid"


LOCATIONS: Final = [
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "//10.0.0.1/",
    "///10.0.0.1/",
    "http://10.0.0.1:80@127.0.0.1:1/",
    "http://user:pass@127.0.0.1:1/",
    "http:\\\\10.0.0.1\\",
    "\\\\10.0.0.1\\",
    "http://[::1",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:1/%",
    "http://",
    "http:",
    "javascript:alert(1)",
    "ht\ttp://10.0.0.1/",
    "http://\xe9\xff/",
    "http://" + "a" * 20_000 + "/",
    "http://127.0.0.2:1/",
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
]


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("status", [301, 303, 308])
def test_where_a_hostile_server_leads(action: HttpAction, location: str, status: int) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer("home", *((status, {"Location": location}) if asked.path == "/go" else ()))

    with answering(answer) as server:
        outcome = attack(action, url=f"{server.url}/go", auth="api")
        # Some are no address but a place on the same server, the very same one maybe.
        assert outcome.code == "http_connection" or outcome.data["data"] == "home", outcome
        assert len(server.asked) <= 6
        server.answer = lambda asked: Answer(1)
        is_alive(action, server)


def test_a_redirect_makes_no_credential(action: HttpAction) -> None:
    with answering(lambda asked: Answer(1)) as server:
        to = f"http://user:pa55word@127.0.0.1:{server.server_port}/there"
        server.answer = lambda asked: Answer(status=302, headers={"Location": to})
        outcome = attack(action, url=server.url)
        assert outcome.code == "http_connection" and len(server.asked) == 1
        assert "pa55word" not in outcome.message


@pytest.mark.parametrize("target", ["/go", "/{n}", "?{n}", "//127.0.0.1:{port}/{n}"])
def test_circles_end(action: HttpAction, target: str) -> None:
    with answering(lambda asked: Answer()) as server:

        def lead(asked: Asked) -> Answer:
            told = target.replace("{n}", str(len(server.asked))).replace("{port}", str(server.server_port))
            return Answer(status=302, headers={"Location": told})

        server.answer = lead
        outcome = attack(action, url=f"{server.url}/go")
        assert outcome.code == "http_connection" and "redirects" in outcome.message
        assert len(server.asked) == 6


@pytest.mark.parametrize("word", ["auth", "header", "cookie", "key"])
def test_a_secret_stays_on_its_host(action: HttpAction, word: str) -> None:
    wide = HttpAction(["127.0.0.0/8"])
    forms: dict[str, dict[str, Any]] = {
        "auth": {"auth": "api"},
        "header": {"headers": {"Authorization": SECRET}},
        "cookie": {"headers": {"Cookie": SECRET}},
        "key": {"headers": {"X-Api-Key": SECRET}},
    }
    with answering(lambda asked: Answer({"headers": asked.headers})) as other:
        there = other.on("127.0.0.2")
        with answering(lambda asked: Answer(status=307, headers={"Location": there})) as server:
            outcome = attack(wide, url=server.url, **forms[word])
            assert SECRET in str(server.asked[0].headers)
    assert outcome.status == "success" and SECRET not in str(other.asked[0].headers)
    wide.close()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_body_stays_on_its_host(status: int) -> None:
    wide = HttpAction(["127.0.0.0/8"])
    with answering(lambda asked: Answer()) as other, answering(lambda asked: Answer()) as server:
        server.answer = lambda asked: Answer(status=status, headers={"Location": other.on("127.0.0.2")})
        outcome = attack(wide, url=server.url, method="PUT", json={"password": SECRET})
        assert outcome.code == "http_connection" and other.asked == []
    wide.close()


# -- headers, parameters and bodies --------------------------------------------------------------------------

BREAKS: Final = [
    "a\r\nX-Injected: 1",
    "a\nX-Injected: 1",
    "a\rX-Injected: 1",
    "a\r\n\r\nGET /second HTTP/1.1\r\n\r\n",
    "a\x00b",
]
NAMES: Final = ["X\r\nX-Injected", "X Injected", "X:", "", "X\x00", ":authority", "größe", "(x)", "x" * 10 + "\n"]
FRAMING: Final = [
    "Content-Length",
    "transfer-encoding",
    "Connection",
    "Upgrade",
    "TE",
    "Trailer",
    "Expect",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Keep-Alive",
]


def check_one_request(server: Server, outcome: Outcome) -> None:
    """Refused, or one request came in which the attack was plain data."""
    assert len(server.asked) <= 1
    assert all("x-injected" not in asked.headers for asked in server.asked)
    assert outcome.status == "success" or outcome.code == "arguments_invalid", outcome


@pytest.mark.parametrize("value", BREAKS)
@pytest.mark.parametrize("place", ["header", "param", "param name", "form", "data", "path", "multipart", "auth header"])
def test_line_breaks_inject_nothing(action: HttpAction, listening: Server, place: str, value: str) -> None:
    said: dict[str, dict[str, Any]] = {
        "header": {"headers": {"X-Own": value}},
        "param": {"params": {"q": value}},
        "param name": {"params": {value: "q"}},
        "form": {"method": "POST", "form": {value: value}},
        "data": {"data": {value: value}},
        "multipart": {"method": "POST", "multipart": {"f": {"text": value}}},
        "auth header": {"headers": {"Authorization": f"Bearer {value}"}},
    }
    url = f"{listening.url}/{value}" if place == "path" else listening.url
    check_one_request(listening, attack(action, url=url, **said.get(place, {})))


@pytest.mark.parametrize("name", [*NAMES, *FRAMING])
def test_names_of_headers(action: HttpAction, listening: Server, name: str) -> None:
    assert attack(action, url=listening.url, headers={name: "5"}).code == "arguments_invalid"
    assert listening.asked == []


@pytest.mark.parametrize(
    "part",
    [
        {"text": "x", "content_type": "text/plain\r\nX-Injected: 1"},
        {"text": "x", "content_type": "text/plain; a=b\nX-Injected: 1"},
        {"text": "x", "filename": "a\r\nX-Injected: 1"},
        {"text": "x", "filename": "a\x00"},
        {"base64": "!!!"},
        {"base64": 5},
        {"base64": "a" * 5},
    ],
)
def test_parts_that_break_out(action: HttpAction, listening: Server, part: dict[str, Any]) -> None:
    outcome = attack(action, url=listening.url, method="POST", multipart={"f": part})
    assert outcome.code == "arguments_invalid" and listening.asked == []


def test_a_parts_name_breaks_out_of_nothing(action: HttpAction, listening: Server) -> None:
    assert attack(action, url=listening.url, method="POST", multipart={"a\r\nX: 1": "x"}).code == "arguments_invalid"
    outcome = attack(action, url=listening.url, method="POST", multipart={'a"; filename="evil': "x"})
    assert outcome.status == "success"
    assert b'name="a%22; filename=%22evil"' in listening.asked[0].body


@pytest.mark.parametrize("method", ["GET / HTTP/1.1\r\nX: 1", "CONNECT", "TRACE", "", "G ET", "é", "A" * 33])
def test_methods(action: HttpAction, listening: Server, method: str) -> None:
    assert attack(action, url=listening.url, method=method).code == "arguments_invalid"
    assert listening.asked == []
