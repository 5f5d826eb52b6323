"""Scripts of python steps against real places: a folder, a web server, S3's and Google's protocols."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from moto.server import ThreadedMotoServer

from executors.actions.python import PythonAction, Script
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from executors.scripts import Scripts
from executors.scripts.places import MAX_BYTES

CODE = "def main(n): return n + 1"
DIGEST = hashlib.sha256(CODE.encode()).hexdigest()
LOOPBACK = ["127.0.0.0/8"]


def fetch(scripts: Scripts, credential: Credential | None = None, seconds: float = 10, **place: Any) -> str:
    return scripts(Script(**place), credential, seconds, Event())


def refused(
    scripts: Scripts, credential: Credential | None = None, seconds: float = 10, **place: Any
) -> tuple[str, str]:
    with pytest.raises(ActionFailed) as caught:
        fetch(scripts, credential, seconds, **place)
    return caught.value.code, str(caught.value)


# -- files ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.py").write_text(CODE)
    (folder / "deep" / "two.py").write_text(CODE + "  # two")
    (tmp_path / "secret.py").write_text("secret")
    return folder


def test_a_script_from_the_workers_folder_is_run(folder: Path) -> None:
    action = PythonAction(fetch=Scripts(folder))
    lent = Lent(folder, Event(), lambda name: Credential(name, "generic", {}))
    try:
        arguments = {"script": {"file": "one.py", "sha256": DIGEST}}
        assert action.run(ActionRequest("python", arguments, {"n": 1}, "e1", "e1:s", "s", 1, "e1:s", 20), lent) == 2
    finally:
        action.close()


def test_files_are_read_inside_the_folder_only(folder: Path) -> None:
    scripts = Scripts(folder)
    (folder / "out.py").symlink_to(folder.parent / "secret.py")
    (folder / "up").symlink_to(folder.parent)
    (folder / "in.py").symlink_to(folder / "one.py")
    assert fetch(scripts, file="deep/../one.py") == fetch(scripts, file="in.py") == CODE
    assert fetch(scripts, file=str(folder / "deep" / "two.py")).endswith("# two")
    outside = ["../secret.py", "/etc/passwd", "out.py", "up/secret.py", "deep/../../secret.py", "/proc/self/environ"]
    for name in outside:
        code, message = refused(scripts, file=name)
        assert (code, "is not inside the folder" in message) == ("script_refused", True), name
    assert refused(Scripts(None), file="one.py")[0] == "script_refused"


def test_what_is_no_script_is_not_read(folder: Path) -> None:
    scripts = Scripts(folder)
    os.mkfifo(folder / "pipe")
    (folder / "large.py").write_bytes(b"#" * (MAX_BYTES + 1))
    (folder / "full.py").write_bytes(b"#" * MAX_BYTES)
    (folder / "bytes.py").write_bytes(b"\xff\xfe")
    begun_at = time.monotonic()
    assert [refused(scripts, file=name)[0] for name in ("none.py", "deep", "pipe", "large.py", "bytes.py", "a\0b")] == [
        "script_unavailable", "script_unavailable", "script_unavailable", "script_too_large", "script_unavailable",
        "script_unavailable",
    ]  # fmt: skip
    assert len(fetch(scripts, file="full.py")) == MAX_BYTES
    assert time.monotonic() - begun_at < 5


def test_a_pinned_script_is_the_one_that_was_pinned_and_read_once(folder: Path) -> None:
    scripts = Scripts(folder)
    code, message = refused(scripts, file="deep/two.py", sha256=DIGEST)
    assert code == "script_changed" and DIGEST in message
    assert fetch(scripts, file="one.py", sha256=DIGEST) == CODE
    (folder / "one.py").write_text("changed")
    assert fetch(scripts, file="one.py", sha256=DIGEST) == CODE, "kept by its content"
    assert fetch(scripts, file="one.py") == "changed"


# -- the web ----------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *_: object) -> None:
        """Nothing is said."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        status, body, headers = self.server.answer(urlsplit(self.path), self)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  (http.server finds it by this name)


@contextmanager
def serving(answer: Callable[[Any, Any], tuple[int, bytes, dict[str, str]]]) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer, server.asked = answer, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page(place: Any, handler: Any) -> tuple[int, bytes, dict[str, str]]:
    match place.path:
        case "/one.py":
            return 200, "# \u00e4\n".encode() + CODE.encode(), {"Content-Type": "text/plain"}
        case "/away":
            return 302, b"", {"Location": "/one.py"}
        case "/large":
            return 200, b"#" * (MAX_BYTES + 1), {}
        case "/slow":
            handler.server.released.wait(20)
    return 404, b"none", {}


@pytest.fixture
def web() -> Iterator[Any]:
    with serving(page) as server:
        server.released = Event()
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server.released.set()


def test_a_script_from_the_web_comes_by_the_rules_of_http_steps(web: Any) -> None:
    scripts = Scripts(None, LOOPBACK)
    assert fetch(scripts, http=f"{web.url}/one.py") == f"# \u00e4\n{CODE}"
    code, message = refused(Scripts(None), http=f"{web.url}/one.py")
    assert code == "script_unavailable" and "NOETL_HTTP_ALLOWED_NETWORKS" in message
    assert refused(scripts, http=f"{web.url}/away")[1].endswith("the server answered 302 Found")
    assert refused(scripts, http=f"{web.url}/none")[0] == "script_unavailable"
    assert refused(scripts, http=f"{web.url}/large")[0] == "script_too_large"
    for address in ("file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd", "gopher://x"):
        assert refused(scripts, http=address)[0] == "script_refused"


def test_a_slow_script_ends_with_the_steps_time_or_its_cancellation(web: Any) -> None:
    scripts = Scripts(None, LOOPBACK)
    begun_at = time.monotonic()
    assert refused(scripts, seconds=0.3, http=f"{web.url}/slow")[0] == "timeout"
    cancelled = Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(ActionFailed) as caught:
        scripts(Script(http=f"{web.url}/slow"), None, 30, cancelled)
    assert caught.value.code == "cancelled"
    assert time.monotonic() - begun_at < 5


def test_a_credential_is_sent_and_told_nowhere(web: Any) -> None:
    scripts = Scripts(None, LOOPBACK)
    basic = Credential("b", "basic", {"username": "ada", "password": "p4ss-word"})
    bearer = Credential("t", "bearer", {"token": "t0ken-value"})
    fetch(scripts, basic, http=f"{web.url}/one.py")
    fetch(scripts, bearer, http=f"{web.url}/one.py")
    assert [asked[1] for asked in web.asked] == ["Basic YWRhOnA0c3Mtd29yZA==", "Bearer t0ken-value"]
    assert "t0ken-value" not in refused(scripts, bearer, http=f"{web.url}/none?t0ken-value")[1]
    assert refused(scripts, Credential("x", "generic", {"x": "y"}), http=f"{web.url}/one.py")[0] == "credential_invalid"


# -- S3 ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[Credential]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    data = {"access_key_id": "AKIA-test", "secret_access_key": "s3cret-key", "endpoint_url": f"http://{host}:{port}"}
    client = boto3.client(
        "s3", aws_access_key_id="AKIA-test", aws_secret_access_key="s3cret-key", endpoint_url=data["endpoint_url"],
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="code")
    for key, body in {"a/one.py": CODE.encode(), "large.py": b"#" * (MAX_BYTES + 5), "empty.py": b""}.items():
        client.put_object(Bucket="code", Key=key, Body=body)
    yield Credential("bucket", "aws", data)
    server.stop()


def test_a_script_from_s3(s3: Credential) -> None:
    scripts = Scripts(None, LOOPBACK)
    assert fetch(scripts, s3, s3="s3://code/a/one.py", sha256=DIGEST) == CODE
    assert fetch(scripts, s3, s3="s3://code/empty.py") == ""
    assert refused(scripts, s3, s3="s3://code/large.py")[0] == "script_too_large"
    code, message = refused(scripts, s3, s3="s3://code/none.py")
    assert code == "script_unavailable" and "s3cret-key" not in message
    assert refused(scripts, s3, s3="s3://none/one.py")[0] == "script_unavailable"
    code, message = refused(Scripts(None), s3, s3="s3://code/a/one.py")
    assert code == "script_unavailable" and "NOETL_HTTP_ALLOWED_NETWORKS" in message


def test_a_store_is_asked_with_a_credential_only() -> None:
    scripts = Scripts(None)
    assert refused(scripts, s3="s3://code/a")[0] == refused(scripts, gcs="gs://code/a")[0] == "credential_invalid"
    half = Credential("half", "aws", {"access_key_id": "x"})
    assert "lacks 'secret_access_key'" in refused(scripts, half, s3="s3://code/a")[1]
    for place in ("code/a", "s3://code", "s3:///a", "https://code/a", "s3://code/a?x=1"):
        assert refused(scripts, half, s3=place)[0] == "arguments_invalid", place


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    key = Credential("k", "x", {"access_key_id": "x", "secret_access_key": "y"})
    code, message = refused(Scripts(None), key, s3="s3://a/b")
    assert code == "extra_missing" and "pip install boto3" in message


# -- Google Cloud Storage ---------------------------------------------------------------------------------


def google(place: Any, handler: Any) -> tuple[int, bytes, dict[str, str]]:
    """The two calls of Google's that are made: a token for an assertion, and an object's content."""
    if place.path == "/token":
        given = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        assert given["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        token = {"access_token": "ya29.made", "expires_in": 3600, "token_type": "Bearer"}
        return 200, json.dumps(token).encode(), {"Content-Type": "application/json"}
    if handler.headers.get("Authorization") not in ("Bearer ya29.made", "Bearer ya29.given"):
        return 401, b"", {}
    if place.path == "/storage/v1/b/code/o/a%2Fone.py" and place.query == "alt=media":
        return 200, CODE.encode(), {}
    return 404, b"", {}


@pytest.fixture
def storage() -> Iterator[Any]:
    with serving(google) as server:
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server


def test_a_script_from_google_with_a_token_and_with_a_service_account(storage: Any) -> None:
    scripts = Scripts(None, LOOPBACK)
    token = Credential("g", "gcs", {"access_token": "ya29.given", "endpoint": storage.url})
    assert fetch(scripts, token, gcs="gs://code/a/one.py") == fetch(scripts, token, gcs="gcs://code/a/one.py") == CODE
    assert refused(scripts, token, gcs="gs://code/none")[0] == "script_unavailable"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"client_email": "a@b", "token_uri": f"{storage.url}/token", "private_key": key.decode()}
    given = Credential("g", "google_service_account", {**account, "endpoint": storage.url})
    assert fetch(scripts, given, gcs="gs://code/a/one.py", sha256=DIGEST) == CODE
    broken = Credential("g", "google_service_account", {**account, "private_key": "no key", "endpoint": storage.url})
    assert refused(scripts, broken, gcs="gs://code/a/one.py")[0] == "credential_invalid"
    for credential in (token, given):
        code, message = refused(Scripts(None), credential, gcs="gs://code/a/one.py")
        assert code == "script_unavailable" and "NOETL_HTTP_ALLOWED_NETWORKS" in message
