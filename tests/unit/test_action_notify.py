"""The notify kind against real servers on this machine: what arrives, what is refused, what is told of it."""

from __future__ import annotations

import json
import os
import smtplib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from executors.actions.notify import NotifyAction
from executors.actions.notify.connections import REQUESTS, SMTPLIB
from executors.actions.notify.services import services
from executors.contract import ActionFailed, ActionRequest, Credential
from tests.support.certificates import self_signed
from tests.support.mailserver import serving_mail

TOKEN = "s3cret-t0ken"


@dataclass(slots=True)
class Hook:
    """A server for webhooks: what came, as (path, headers, body)."""

    port: int
    came: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


class Server(ThreadingHTTPServer):
    hook: Hook

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.hook.came.append((self.path, dict(self.headers), json.loads(sent)))
        status, reply = 200, b"ok"
        if "/silent" in self.path:
            self.server.hook.over.wait()
        elif "/gone" in self.path:
            status, reply = 410, b"gone"
        elif "/moved" in self.path:
            status = 307
        elif "/large" in self.path:
            reply = bytes(4_000_000)
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


def serving(secured: bool) -> Iterator[Hook]:
    server = Server(("127.0.0.1", 0), Handler)
    server.hook = Hook(server.server_port)
    if secured:
        server.socket = self_signed().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.hook
    server.hook.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hook() -> Iterator[Hook]:
    yield from serving(secured=False)


@pytest.fixture
def secured_hook() -> Iterator[Hook]:
    yield from serving(secured=True)


CREDENTIALS = {
    "one": Credential("one", "notify", {"url": "json://127.0.0.1:1/one"}),
    "none": Credential("none", "notify", {"name": "x"}),
    "wrong": Credential("wrong", "bearer", {"token": TOKEN}),
}


def run(
    *,
    networks: tuple[str, ...] = ("127.0.0.0/8",),
    cancelled: threading.Event | None = None,
    credentials: dict[str, Credential] | None = None,
    **arguments: Any,
) -> Any:
    request = ActionRequest("notify", {"body": "all is well", **arguments}, {}, "e1", "e1:s", "s", 1, "e1:s", 20.0)
    found = CREDENTIALS | (credentials or {})
    context = SimpleNamespace(
        cancelled=cancelled or threading.Event(),
        credential=found.__getitem__,
        keep_secret=lambda urls: None,
        log=lambda text, level="info": None,
    )
    return NotifyAction(networks).run(request, context)


def failure(**arguments: Any) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        run(**arguments)
    return caught.value


# -- what arrives ---------------------------------------------------------------------------------------


def test_a_webhook_gets_title_body_and_level(hook: Hook) -> None:
    result = run(to=f"json://{hook.host}/own", title="Loaded", level="success")
    assert result == {"sent": [{"url": f"json://{hook.host}/***", "service": "JSON"}], "failed": []}
    [(path, _, body)] = hook.came
    assert path == "/own"
    assert (body["title"], body["message"], body["type"]) == ("Loaded", "all is well", "success")


def test_what_is_no_text_is_written_as_json(hook: Hook) -> None:
    run(to=f"json://{hook.host}/", title=5, body={"rows": [1]})
    assert (hook.came[0][2]["title"], hook.came[0][2]["message"]) == ("5", '{"rows": [1]}')


def test_slacks_webhook(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where Slack is; the request itself is a real one.
    monkeypatch.setattr(services()["slack"], "webhook_url", f"http://{hook.host}/services")
    result = run(to="slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7vQ/#general", title="Loaded", level="failure")
    assert result["sent"] == [{"url": "slack://***", "service": "Slack"}]
    [(path, _, body)] = hook.came
    assert path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7vQ"
    assert body["channel"] == "#general"
    assert "all is well" in json.dumps(body)
    assert "Loaded" in json.dumps(body)


def test_teams_webhook(secured_hook: Hook) -> None:
    workflow, signature = "a" * 32, "B0cd_e-fg" * 4
    url = f"workflows://{secured_hook.host}/{workflow}/{signature}/?verify=no"
    assert run(to=url, title="Loaded")["sent"][0]["service"].startswith("Power Automate")
    [(path, _, body)] = secured_hook.came
    assert path.startswith(f"/workflows/{workflow}/triggers/manual/paths/invoke")
    assert f"sig={signature}" in path
    texts = json.dumps(body["attachments"][0]["content"]["body"])
    assert "Loaded" in texts and "all is well" in texts


def test_mail() -> None:
    with serving_mail() as server:
        url = f"mailto://127.0.0.1:{server.port}?from=noetl@example.com&to=ada@example.com,bob@example.com"
        result = run(to=url, title="Ünder way", body="line\n.\nend {{ 1 }}")
    assert result["sent"] == [{"url": f"mailto://127.0.0.1:{server.port}/***", "service": "E-Mail"}]
    assert [mail.recipients for mail in server.mails] == [["ada@example.com"], ["bob@example.com"]]
    assert server.mails[0].sender == "noetl@example.com"
    assert server.mails[0].message["Subject"] == "Ünder way"
    assert server.mails[0].message.get_payload(decode=True) == b"line\r\n.\r\nend {{ 1 }}\r\n"
    # Not this host's name, which nobody need know.
    assert set(server.greetings) == {"[127.0.0.1]"}


@pytest.mark.parametrize(("password", "answer"), [("p4ss-w0rd", ""), ("wr0ng", "the service answered 535")])
def test_mail_with_a_login(password: str, answer: str) -> None:
    with serving_mail(password="p4ss-w0rd") as server:
        url = f"mailto://ada:{password}@127.0.0.1:{server.port}?from=a@example.com&to=b@example.com&mode=insecure"
        if not answer:
            assert run(to=url)["failed"] == []
            assert len(server.mails) == 1
            return
        failed = failure(to=url)
    assert failed.data["failed"][0]["message"] == answer
    assert password not in repr((str(failed), failed.data))


def test_a_recipient_whom_nobody_knows() -> None:
    with serving_mail() as server:
        failed = failure(to=f"mailto://127.0.0.1:{server.port}?from=a@example.com&to=b@nowhere.example")
    assert failed.code == "notify_failed"
    assert failed.data["failed"][0] == {
        "url": f"mailto://127.0.0.1:{server.port}/***",
        "service": "E-Mail",
        "code": "answer",
        "message": "the service answered 550",
    }


def test_urls_of_lists_texts_and_credentials_are_told_once_each(hook: Hook) -> None:
    urls = [f"json://{hook.host}/{name}" for name in "abcd"]
    stored = {
        "spaces": Credential("spaces", "notify", {"urls": f"{urls[0]}\n{urls[1]}"}),
        "json": Credential("json", "notify", {"url": urls[0], "urls": json.dumps(urls[1:3])}),
    }
    assert len(run(to=[urls[3], f"{urls[3]} {urls[2]}"])["sent"]) == 2
    assert len(run(auth="spaces", to=urls[0], credentials=stored)["sent"]) == 2
    assert len(run(auth="json", credentials=stored)["sent"]) == 3
    assert sorted(path for path, _, _ in hook.came) == ["/a", "/a", "/b", "/b", "/c", "/c", "/d"]


# -- what goes wrong ------------------------------------------------------------------------------------


def test_each_target_has_its_own_outcome(hook: Hook) -> None:
    failed = failure(to=[f"json://{hook.host}/gone?token={TOKEN}", f"json://{hook.host}/b", f"tgram://{TOKEN}"])
    assert failed.code == "notify_failed"
    assert failed.data["sent"] == [{"url": f"json://{hook.host}/***", "service": "JSON"}]
    assert [each["code"] for each in failed.data["failed"]] == ["answer", "url_invalid"]
    assert failed.data["failed"][0]["message"] == "the service answered 410"
    assert str(failed).startswith("2 of 3 were not told: ")
    assert TOKEN not in repr((str(failed), failed.data, failed.traceback))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"],
)
@pytest.mark.parametrize("scheme", ["json", "mailto", "xml", "gotify"])
def test_addresses_that_no_step_may_reach(scheme: str, address: str, hook: Hook) -> None:
    url = f"{scheme}://u:p@{address}:{hook.port}/topic/{'A' * 15}?from=a@example.com&to=b@example.com"
    failed = failure(to=url, networks=())
    assert failed.data["failed"][0]["code"] in ("refused", "url_invalid", "connection")
    assert hook.came == []


def test_private_networks_are_reached_where_the_settings_allow_it(hook: Hook) -> None:
    url = f"json://{hook.host}/"
    assert failure(to=url, networks=("10.0.0.0/8",)).data["failed"][0]["code"] == "refused"
    assert run(to=url, networks=("127.0.0.1/32",))["failed"] == []


@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_proxies_of_the_environment_are_not_used(hook: Hook, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, value)
    assert run(to=f"json://{hook.host}/")["failed"] == []


def test_redirects_are_not_followed(hook: Hook) -> None:
    failed = failure(to=f"json://{hook.host}/moved?redirect=yes")
    assert failed.data["failed"][0]["message"] == "the service answered 307"
    assert [path for path, _, _ in hook.came] == ["/moved"]


def test_a_large_reply_is_not_read(hook: Hook) -> None:
    assert failure(to=f"json://{hook.host}/large").data["failed"][0]["code"] == "connection"


@pytest.mark.parametrize(
    "url",
    [
        *("dbus://", "qt://", "kde://", "glib://", "gnome://", "macosx://", "windows://", "syslog://"),
        *("rsyslog://127.0.0.1", "irc://127.0.0.1/x", "mqtt://127.0.0.1/x", "xmpp://u:p@127.0.0.1", "aprs://u:1@x"),
        *("file:///etc/passwd", "memory://x", "blink1://", "growl://127.0.0.1", "smpp://u:p@127.0.0.1/1/2"),
        *("amqp://127.0.0.1/x", "nostr://x", "vapid://a@b.example/c", "http://127.0.0.1", "https://127.0.0.1/x"),
        *("json://", "://", "x", "json", "javascript:alert(1)", "slack://a/b", "{{ secret.x }}"),
    ],
)
def test_schemes_that_are_not_used(url: str) -> None:
    failed = failure(to=url)
    assert failed.data["sent"] == []
    assert failed.data["failed"][0]["code"] == "url_invalid"


@pytest.mark.parametrize("place", ["/etc/hostname", "file:///etc/hostname", "http://127.0.0.1:9/x"])
@pytest.mark.parametrize(
    "url",
    [
        "workflows://127.0.0.1:9/{w}/{s}/?template={place}",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7vQ/?template={place}",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js/?template={place}",
        "fcm://project/DEVICE?mode=oauth2&keyfile={place}",
        "mailto://127.0.0.1:9?from=a@example.com&to=b@example.com&pgp=sign&pgpkey={place}",
        "mailto://127.0.0.1:9?from=a@example.com&to=b@example.com&wkd=yes",
    ],
)
def test_urls_that_name_files_of_the_worker(url: str, place: str) -> None:
    failed = failure(to=url.replace("{w}", "a" * 32).replace("{s}", "b" * 30).replace("{place}", place))
    assert failed.data["failed"][0]["code"] == "url_invalid"


def test_a_service_that_does_not_answer(hook: Hook) -> None:
    started = time.monotonic()
    failed = failure(to=[f"json://{hook.host}/silent", f"json://{hook.host}/b"], timeout=0.5)
    assert time.monotonic() - started < 5
    assert [each["url"] for each in failed.data["sent"]] == [f"json://{hook.host}/***"]
    assert failed.data["failed"][0]["code"] == "timeout"
    assert failure(to=f"json://{hook.host}/silent", timeout=0.2).code == "timeout"


def test_a_mail_server_that_does_not_answer() -> None:
    with serving_mail() as server:
        url = f"mailto://127.0.0.1:{server.port}?from=a@example.com&to=b@silent.example"
        assert failure(to=url, timeout=0.3).code == "timeout"


def test_it_ends_when_the_job_is_cancelled(hook: Hook) -> None:
    cancelled = threading.Event()
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()
    started = time.monotonic()
    assert failure(to=f"json://{hook.host}/silent", cancelled=cancelled).code == "cancelled"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "arguments_invalid"),
        ({"to": "  "}, "arguments_invalid"),
        ({"to": []}, "arguments_invalid"),
        ({"to": "json://x", "body": ""}, "arguments_invalid"),
        ({"to": "json://x", "level": "loud"}, "arguments_invalid"),
        ({"to": [f"json://x/{number}" for number in range(101)]}, "arguments_invalid"),
        ({"auth": "none"}, "credential_invalid"),
        ({"auth": "wrong"}, "credential_invalid"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], code: str) -> None:
    failed = failure(**arguments)
    assert failed.code == code
    assert TOKEN not in str(failed)


# -- the stand-ins --------------------------------------------------------------------------------------


def test_nothing_is_sent_outside_of_a_delivery(hook: Hook) -> None:
    with pytest.raises(requests.RequestException, match="outside of a delivery"):
        REQUESTS.post(f"http://{hook.host}/")
    with pytest.raises(requests.RequestException, match="outside of a delivery"):
        SMTPLIB.SMTP("127.0.0.1", hook.port)
    for name in ("Session", "sessions", "adapters", "api"):
        with pytest.raises(AttributeError):
            getattr(REQUESTS, name)
    assert hook.came == []


def test_only_apprise_sees_the_stand_ins() -> None:
    services()
    assert services()["json"].send.__globals__["requests"] is REQUESTS
    assert requests.post.__module__ == "requests.api"
    assert smtplib.SMTP.__module__ == "smtplib"
    assert os.environ.get("APPRISE_URLS") is None
