"""Credentials of the http kind: several at once, and OAuth2 tokens that are fetched, kept, and fetched again."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from executors.actions.http import HttpAction
from executors.contract import ActionRequest, Credential
from executors.running import Lent, run_action
from tests.support.answering import Answer, Asked, Server, answering
from tests.support.asking import Asking


class TokenServer:
    """Gives tokens, and lets in whoever has the newest."""

    def __init__(self) -> None:
        self.given = 0
        self.seconds: Any = 3600
        self.reply: Answer | None = None
        self.is_open = True

    @property
    def token(self) -> str:
        return f"t0ken-number-{self.given}"

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/token":
            if self.reply is not None:
                return self.reply
            self.given += 1
            return Answer({"access_token": self.token, "token_type": "Bearer", "expires_in": self.seconds})
        if asked.path == "/away":
            return Answer(status=302, headers={"Location": asked.said["to"]})
        good = self.is_open and asked.headers.get("authorization") == f"Bearer {self.token}"
        return Answer({"headers": asked.headers}, status=200 if good else 401)


@pytest.fixture
def tokens() -> TokenServer:
    return TokenServer()


@pytest.fixture
def server(tokens: TokenServer) -> Iterator[Server]:
    with answering(tokens.answer) as found:
        yield found


def client(server: Server, **data: str) -> Credential:
    fields = {"token_url": f"{server.url}/token", "client_id": "us", "client_secret": "s3cret/of us", **data}
    return Credential("api", "oauth2", {name: value for name, value in fields.items() if value})


@pytest.fixture
def asking(server: Server) -> Iterator[Asking]:
    action = HttpAction(["127.0.0.0/8"])
    yield Asking(action, credentials={"api": client(server)})
    action.close()


def asked_for(server: Server, path: str) -> list[Asked]:
    return [asked for asked in server.asked if asked.path == path]


def test_a_token_is_fetched_once_and_sent(asking: Asking, server: Server) -> None:
    for _ in range(3):
        assert asking.run(url=f"{server.url}/x", auth="api")["status_code"] == 200
    [fetched] = asked_for(server, "/token")
    assert fetched.method == "POST" and parse_qs(fetched.body.decode()) == {"grant_type": ["client_credentials"]}
    pair = base64.b64decode(fetched.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == "us:s3cret%2Fof+us", "RFC 6749 writes both as in a form"


def test_scope_and_audience_are_asked_for_and_the_client_may_stand_in_the_body(asking: Asking, server: Server) -> None:
    asking.credentials = {"api": client(server, scope="a b", audience="shop", client_auth="body")}
    asking.run(url=f"{server.url}/x", auth="api")
    [fetched] = asked_for(server, "/token")
    assert parse_qs(fetched.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["a b"],
        "audience": ["shop"],
        "client_id": ["us"],
        "client_secret": ["s3cret/of us"],
    }
    assert "authorization" not in fetched.headers


def test_it_is_fetched_again_shortly_before_it_expires(
    asking: Asking, server: Server, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.seconds = 100
    asking.run(url=f"{server.url}/x", auth="api")
    now = time.monotonic
    monkeypatch.setattr("executors.actions.http.credentials.time.monotonic", lambda: now() + 85)
    asking.run(url=f"{server.url}/x", auth="api")
    assert tokens.given == 1
    monkeypatch.setattr("executors.actions.http.credentials.time.monotonic", lambda: now() + 95)
    asking.run(url=f"{server.url}/x", auth="api")
    assert tokens.given == 2


def test_a_changed_credential_has_another_token(asking: Asking, server: Server, tokens: TokenServer) -> None:
    asking.run(url=f"{server.url}/x", auth="api")
    asking.credentials = {"api": client(server, client_secret="rotated-secret")}
    asking.run(url=f"{server.url}/x", auth="api")
    assert tokens.given == 2


def test_after_a_401_it_is_fetched_once_more(asking: Asking, server: Server, tokens: TokenServer) -> None:
    asking.run(url=f"{server.url}/x", auth="api")
    tokens.given += 1  # The server forgot the first.
    assert asking.run(url=f"{server.url}/x", method="POST", json={}, auth="api")["status_code"] == 200
    assert len(asked_for(server, "/token")) == 2
    first, again = asked_for(server, "/x")[-2:]
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]


def test_and_not_a_second_time(asking: Asking, server: Server, tokens: TokenServer) -> None:
    tokens.is_open = False
    error = asking.failure(url=f"{server.url}/x", auth="api")
    assert (error.code, error.data["status_code"]) == ("http_status", 401)
    assert len(asked_for(server, "/token")) == 2 and len(asked_for(server, "/x")) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Answer({"error": "invalid_client"}, status=401),
        Answer({"token": "x"}),
        Answer(["x"]),
        Answer(b"<html>"),
        Answer({"access_token": ["x"]}),
        Answer({"access_token": "x", "token_type": "mac"}),
        Answer({"access_token": "x", "expires_in": "soon"}),
        Answer({"access_token": "x", "expires_in": -1}),
        Answer({"access_token": "x", "expires_in": 1e999}),
        Answer(status=302, headers={"Location": "/x"}),
    ],
)
def test_whoever_gives_no_token(asking: Asking, server: Server, tokens: TokenServer, reply: Answer) -> None:
    tokens.reply = reply
    error = asking.failure(url=f"{server.url}/x", auth="api")
    assert error.code == "token_refused" and "invalid_client" not in str(error) and "'api'" in str(error)
    assert asked_for(server, "/x") == []


def test_a_token_that_no_header_can_hold(asking: Asking, server: Server, tokens: TokenServer) -> None:
    tokens.reply = Answer({"access_token": "good\r\nX-Evil: 1"})
    error = asking.failure(url=f"{server.url}/x", auth="api")
    assert error.code == "arguments_invalid" and "Evil" not in str(error) and asked_for(server, "/x") == []


def test_a_token_server_that_is_busy_says_when_to_come_back(
    asking: Asking, server: Server, tokens: TokenServer
) -> None:
    tokens.reply = Answer(status=429, headers={"Retry-After": "9"})
    assert asking.failure(url=f"{server.url}/x", auth="api").retry_after_seconds == 9


@pytest.mark.parametrize("url", ["http://169.254.169.254/token", "http://10.0.0.1/token"])
def test_a_token_comes_from_an_allowed_address(asking: Asking, server: Server, url: str) -> None:
    asking.credentials = {"api": client(server, token_url=url)}
    error = asking.failure(url=f"{server.url}/x", auth="api")
    assert error.code == "http_connection" and "not a public address" in str(error)


@pytest.mark.parametrize("field", ["client_id", "client_secret"])
def test_a_client_without_a_field(asking: Asking, server: Server, field: str) -> None:
    asking.credentials = {"api": client(server, **{field: ""})}
    error = asking.failure(url=f"{server.url}/x", auth="api")
    assert error.code == "credential_invalid" and field in str(error)


def test_a_token_does_not_follow_to_another_host(asking: Asking, server: Server) -> None:
    there = f"{server.on('127.0.0.2')}/x"
    asking.failure(url=f"{server.url}/away", params={"to": there}, auth="api")
    [moved] = asked_for(server, "/x")
    assert "authorization" not in moved.headers
    assert len(asked_for(server, "/token")) == 1, "a 401 of another host says nothing of the token"


def test_a_token_comes_out_nowhere(asking: Asking, server: Server) -> None:
    asking.run(url=f"{server.url}/x", auth="api")
    lent = asking.lent
    assert lent is not None
    request = ActionRequest("http", {"url": f"{server.url}/x", "auth": "api"}, {}, "e1", "e1:s", "s", 1, "e1:s", 10)
    fresh = Lent(lent.data_dir, lent.cancelled, lent.resolve)
    outcome = run_action({"http": asking.action}, request, fresh)
    assert outcome.data["data"]["headers"]["authorization"] == "Bearer ***"


# -- several, and their spellings ------------------------------------------------------------------------

CREDENTIALS = {
    "one": Credential("one", "bearer", {"token": "t0ken-value"}),
    "two": Credential("two", "api_key", {"value": "k3y-value", "header": "X-Shop"}),
    "three": Credential("three", "generic", {"username": "u", "password": "pw"}),
}


@pytest.fixture(scope="module")
def several() -> Iterator[tuple[Asking, Server]]:
    action = HttpAction(["127.0.0.0/8"])
    with answering(lambda asked: Answer({"headers": asked.headers})) as server:
        yield Asking(action, credentials=CREDENTIALS), server
    action.close()


BASIC = "Basic " + base64.b64encode(b"u:pw").decode()


@pytest.mark.parametrize(
    ("said", "authorization", "key"),
    [
        ({"auth": "one"}, "Bearer t0ken-value", None),
        ({"auth": {"a": "one", "b": "two"}}, "Bearer t0ken-value", "k3y-value"),
        ({"auth": {"a": {"key": "one"}, "b": {"type": "api_key", "key": "two"}}}, "Bearer t0ken-value", "k3y-value"),
        ({"auth": {"a": "one", "b": "two"}, "use_auth": "b"}, None, "k3y-value"),
        ({"auth": {"type": "basic", "credential": "three"}}, BASIC, None),
        ({"auth": {"a": {"type": "basic", "key": "three"}, "b": "two"}}, BASIC, "k3y-value"),
    ],
)
def test_the_forms_of_auth(
    several: tuple[Asking, Server], said: dict[str, Any], authorization: str | None, key: str | None
) -> None:
    asking, server = several
    sent = asking.run(url=server.url, **said)["data"]["headers"]
    assert (sent.get("authorization"), sent.get("x-shop")) == (authorization, key)


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"a": "one", "b": "one"}, "credential_invalid"),
        ({"a": 1}, "auth_invalid"),
        ({"a": {}}, "auth_invalid"),
        ({"type": "bearer"}, "auth_invalid"),
        ("three", "credential_invalid"),
    ],
)
def test_auth_that_makes_no_headers(several: tuple[Asking, Server], auth: Any, code: str) -> None:
    asking, server = several
    error = asking.failure(url=server.url, auth=auth)
    assert error.code == code and "t0ken-value" not in str(error)


def test_an_alias_that_is_not_there(several: tuple[Asking, Server]) -> None:
    asking, server = several
    assert asking.failure(url=server.url, auth={"a": "one"}, use_auth="b").code == "auth_invalid"
