"""Downloads of the http kind: files of an execution, whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from executors.actions.http import HttpAction
from tests.support.answering import Answer, Asked, Server, answering
from tests.support.asking import Asking

TABLE = b"n,name\n" + b"".join(b"%d,item\n" % number for number in range(50_000))


def answer(asked: Asked) -> Answer:
    match asked.path:
        case "/table":
            return Answer(TABLE, headers={"Content-Type": "text/csv"})
        case "/packed":
            packed = gzip.compress(TABLE)
            return Answer(packed, headers={"Content-Type": "text/csv", "Content-Encoding": "gzip"})
        case "/bomb":
            return Answer(gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"})
        case "/named":
            return Answer(b"x", headers={"Content-Disposition": 'attachment; filename="../../evil"'})
        case "/short":
            return Answer(b"x" * 10, headers={"X-Short": "1"})
    return Answer({"why": "gone"}, status=404)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with answering(answer) as found:
        yield found


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    action = HttpAction(["127.0.0.0/8"], max_bytes=1000, max_download_bytes=100_000_000)
    yield Asking(action, tmp_path)
    action.close()


def files(asking: Asking) -> list[str]:
    folder = asking.data_dir / "files" / "e1"
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_a_file_is_on_the_disk_with_its_name(asking: Asking, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk, sync = list[int](), os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        on_disk.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    path = Path(asking.run(url=f"{server.url}/named", download=True)["path"])
    assert on_disk == [path.stat().st_ino, path.parent.stat().st_ino]


@pytest.mark.parametrize("path", ["/table", "/packed"])
def test_a_reply_becomes_a_file(asking: Asking, server: Server, path: str) -> None:
    result = asking.run(url=server.url + path, download=True)
    file = asking.data_dir / "files" / "e1" / "s.data"
    assert result == {
        "path": str(file.resolve()),
        "bytes": len(TABLE),
        "sha256": hashlib.sha256(TABLE).hexdigest(),
        "content_type": "text/csv",
    }
    assert file.read_bytes() == TABLE and files(asking) == ["s.data"]
    assert duckdb.sql(f"SELECT count(*) FROM read_csv('{result['path']}')").fetchone() == (50_000,)


def test_its_name_may_be_chosen(asking: Asking, server: Server) -> None:
    assert asking.run(url=f"{server.url}/table", download={"name": "stock.csv"})["path"].endswith("/files/e1/stock.csv")


def test_a_server_names_no_file(asking: Asking, server: Server) -> None:
    asking.run(url=f"{server.url}/named", download=True)
    assert files(asking) == ["s.data"]


def test_each_place_of_a_step_has_a_file_of_its_own(asking: Asking, server: Server) -> None:
    for node in ("s", "s:0", "s:1", "s#2", "s:0#2", "s_0", "größe", "a" * 150, "a" * 151):
        asking.run(url=f"{server.url}/named", node=node, download=True)
    asking.run(url=f"{server.url}/named", node="s:0", download=True)
    assert len(files(asking)) == 9


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a\x00b", "x" * 200, "a\nb", "~/x", "a b"])
def test_names_that_lead_elsewhere_are_refused(asking: Asking, server: Server, name: str) -> None:
    assert asking.failure(url=f"{server.url}/table", download={"name": name}).code == "arguments_invalid"
    assert files(asking) == []


@pytest.mark.parametrize(
    ("path", "said", "code"),
    [
        ("/table", {"max_bytes": 1000}, "output_too_large"),
        ("/packed", {"max_bytes": 100_000}, "output_too_large"),
        ("/bomb", {}, "output_too_large"),
        ("/none", {}, "http_status"),
    ],
)
def test_what_fails_leaves_no_file(asking: Asking, server: Server, path: str, said: dict[str, Any], code: str) -> None:
    error = asking.failure(url=server.url + path, download=said or True)
    assert error.code == code and files(asking) == []
    if code == "http_status":
        assert error.data["data"] == {"why": "gone"}


def test_a_step_cannot_raise_the_workers_bound(asking: Asking, server: Server) -> None:
    asking.action = HttpAction(["127.0.0.0/8"], max_download_bytes=1000)
    assert asking.failure(url=f"{server.url}/table", download={"max_bytes": 10**9}).code == "output_too_large"


def test_a_failed_try_leaves_the_file_of_an_earlier_one(asking: Asking, server: Server) -> None:
    asking.run(url=f"{server.url}/named", download={"name": "f"})
    asking.failure(url=f"{server.url}/table", download={"name": "f", "max_bytes": 1000})
    assert files(asking) == ["f"] and (asking.data_dir / "files/e1/f").read_bytes() == b"x"


def test_a_cancelled_download_leaves_no_file(asking: Asking) -> None:
    cancelled, release = threading.Event(), threading.Event()

    def slow(asked: Asked) -> Answer:
        cancelled.set()
        release.wait(5)
        return Answer(b"late")

    with answering(slow) as server:
        error = asking.failure(url=server.url, cancelled=cancelled, download=True)
        release.set()
    assert error.code == "cancelled" and files(asking) == []


def test_a_folder_that_cannot_be_written(asking: Asking, server: Server) -> None:
    (asking.data_dir / "files").write_text("in the way")
    error = asking.failure(url=f"{server.url}/table", download=True)
    assert error.code == "file_error" and str(asking.data_dir) not in str(error)


def test_pages_are_no_file(asking: Asking) -> None:
    error = asking.failure(url="http://127.0.0.1:1", download=True, pagination={"type": "link"})
    assert error.code == "arguments_invalid"
