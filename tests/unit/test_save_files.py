"""The storage `file`: formats, parts, what is refused, and that a file is there whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from executors.actions.save.files import part_of
from tests.support.file_saves import ROWS, Saves, parquet_rows

CSV: Final = 'id,name,more\n1,"Öl, ""gut""",\n2,,"[1,{""a"":""b""}]"\n'
MANY: Final = [{"n": n} for n in range(10_000)]


@pytest.fixture
def saves(tmp_path: Path) -> Saves:
    return Saves(tmp_path)


def only_file(saves: Saves) -> Path:
    [name] = saves.names()
    return saves.data_dir / name


@pytest.mark.parametrize(("mode", "place"), [("overwrite", "out/rows"), ("append", "out")])
def test_rows_are_written_in_every_format(saves: Saves, tmp_path: Path, mode: str, place: str) -> None:
    read: dict[str, Any] = {
        "csv": lambda path: path.read_text(),
        "json": lambda path: json.loads(path.read_text()),
        "jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
        "parquet": lambda path: [
            {"id": row["id"], "name": row["name"]} for row in parquet_rows(path.read_bytes(), tmp_path)
        ],
    }
    wanted = {
        "csv": CSV,
        "json": ROWS,
        "jsonl": ROWS,
        "parquet": [{"id": 1, "name": 'Öl, "gut"'}, {"id": 2, "name": None}],
    }
    for format_, content in wanted.items():
        told = saves.run("file", f"{place}.{format_}", ROWS, mode=mode)
        assert told == {"saved": "file", "path": told["path"], "rows": 2}
        path = saves.files / told["path"]
        assert path.suffix == f".{format_}"
        assert read[format_](path) == content
    assert len(saves.names()) == len(wanted)


def test_a_format_that_is_said_wins_over_the_names_end(saves: Saves) -> None:
    saves.run("file", "rows.txt", [{"a": 1}], mode="overwrite", format="csv")
    assert (saves.files / "rows.txt").read_text() == "a\n1\n"
    assert saves.run("file", "rows", [{"a": 1}], format="jsonl")["path"].endswith(".jsonl")
    assert saves.fails("file", "rows", [{"a": 1}]).code == "arguments_invalid"


@pytest.mark.parametrize("data", [{"a": [1, 2]}, "text", 7, None, [], [1, "two"]])
def test_a_json_file_is_the_data_as_it_is(saves: Saves, data: Any) -> None:
    saves.run("file", "one.json", data, mode="overwrite")
    assert json.loads((saves.files / "one.json").read_text()) == data


def test_items_of_a_loop_are_one_list(saves: Saves) -> None:
    told = saves.run("file", "all.json", [{"a": 1}, [{"a": 2}, {"a": 3}]], of_items=True, node="s#save:0")
    assert json.loads((saves.files / told["path"]).read_text()) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert told["rows"] == 3


def test_what_is_appended_stands_side_by_side_and_a_repeated_attempt_replaces_its_own(saves: Saves) -> None:
    for chunk in (0, 1, 1, 0):
        saves.run("file", "out/rows.csv", [{"n": chunk}], of_items=True, node=f"s#save:{chunk}")
    texts = sorted((saves.data_dir / name).read_text() for name in saves.names())
    assert texts == ["n\n0\n", "n\n1\n"]
    assert all(Path(name).parent == Path("files/e1/out/rows") for name in saves.names())


def test_an_overwrite_is_the_last_one_and_touches_no_part(saves: Saves) -> None:
    saves.run("file", "rows.csv", [{"n": 0}])
    for n in (1, 2):
        saves.run("file", "rows.csv", [{"n": n}], mode="overwrite", node=f"s{n}#save")
    assert (saves.files / "rows.csv").read_text() == "n\n2\n"
    assert len(saves.names()) == 2


def test_nothing_to_append_is_no_file(saves: Saves) -> None:
    for format_ in ("csv", "json", "jsonl", "parquet"):
        assert saves.run("file", f"rows.{format_}", []) == {"saved": "file", "path": None, "rows": 0}
    assert saves.names() == []
    saves.run("file", "rows.csv", [{"n": 1}], mode="overwrite")
    saves.run("file", "rows.csv", [], mode="overwrite")
    assert (saves.files / "rows.csv").read_text() == ""


def test_parts_of_any_two_jobs_have_different_names() -> None:
    keys = ["1:a#save:1", "1:a#save:11", "1:a#save", "1:a-save", "11:a#save", "1:" + "x" * 200, "2:" + "x" * 200]
    parts = {part_of("out/rows.csv", "csv", key) for key in keys}
    assert len(parts) == len(keys)
    assert all(len(Path(part).name) < 120 for part in parts)
    assert part_of("s3://lake/in.put/", "parquet", "1:a").startswith("s3://lake/in.put/1-a-")
    assert part_of("s3://lake/rows.CSV", "csv", "1:a").startswith("s3://lake/rows/1-a-")


WRONG: Final[list[tuple[str, Any, dict[str, Any], str]]] = [
    ("../out.csv", [{"a": 1}], {}, "path_not_allowed"),
    ("../e2/out.csv", [{"a": 1}], {"mode": "overwrite"}, "path_not_allowed"),
    ("/etc/out.csv", [{"a": 1}], {}, "path_not_allowed"),
    ("link/out.csv", [{"a": 1}], {}, "path_not_allowed"),
    ("round/out.csv", [{"a": 1}], {}, "path_not_allowed"),
    ("a\x00.csv", [{"a": 1}], {}, "path_not_allowed"),
    (".", [{"a": 1}], {"mode": "overwrite", "format": "csv"}, "path_not_allowed"),
    ("taken/out.csv", [{"a": 1}], {}, "file_error"),
    ("n" * 300 + ".csv", [{"a": 1}], {"mode": "overwrite"}, "file_error"),
    ("rows.csv", [{"a": 1}, 2], {}, "arguments_invalid"),
    ("rows.csv", "text", {"mode": "overwrite"}, "arguments_invalid"),
    ("rows.csv", [{}], {}, "arguments_invalid"),
    ("rows.parquet", [[1]], {}, "arguments_invalid"),
    ("rows.parquet", [], {"mode": "overwrite"}, "arguments_invalid"),
    ("rows.csv", [{"a": 1}], {"mode": "upsert", "key": "a"}, "arguments_invalid"),
    ("", [{"a": 1}], {}, "arguments_invalid"),
    ("rows.csv", [{"a": 1}], {"spec": {"path": "a.csv", "more": 1}}, "arguments_invalid"),
]


@pytest.mark.parametrize(("place", "data", "more", "code"), WRONG)
def test_what_cannot_be_saved_is_refused_and_leaves_nothing(
    saves: Saves, tmp_path: Path, place: str, data: Any, more: dict[str, Any], code: str
) -> None:
    saves.files.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (saves.files / "link").symlink_to(tmp_path / "elsewhere")
    (saves.files / "round").symlink_to("round")
    (saves.files / "taken").write_text("a file")
    assert saves.fails("file", place, data, **more).code == code
    assert saves.names() == ["files/e1/taken"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_refusal_quotes_no_data(saves: Saves) -> None:
    failure = saves.fails("file", "rows.csv", [{"a": 1}, "s3cr3t-word"])
    assert "index 1" in str(failure) and "s3cr3t" not in str(failure)


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_what_fails_while_it_is_written_leaves_what_was_there(saves: Saves, format_: str) -> None:
    saves.run("file", f"rows.{format_}", [{"a": 1}], mode="overwrite")
    before = only_file(saves).read_bytes()
    saves.cancelled.set()
    assert saves.fails("file", f"rows.{format_}", [{"a": 2}], mode="overwrite").code == "cancelled"
    assert only_file(saves).read_bytes() == before


def be_killed(data_dir: Path, moment: str, mode: str) -> None:
    """A worker that is killed when the rows are written and have no name yet, or before it tells that they have."""
    die = partial(os.kill, os.getpid(), signal.SIGKILL)
    with pytest.MonkeyPatch.context() as patch:
        if moment == "before":
            patch.setattr(Path, "replace", lambda *_: die())
        Saves(data_dir).run("file", "out/rows.csv", MANY, mode=mode)
    die()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_worker_that_is_killed_leaves_no_half_file_and_no_row_twice(saves: Saves, moment: str, mode: str) -> None:
    worker = multiprocessing.get_context("fork").Process(target=be_killed, args=(saves.data_dir, moment, mode))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    found = list(saves.files.rglob("*.csv"))
    assert len(found) == (moment == "after")
    told = saves.run("file", "out/rows.csv", MANY, mode=mode)
    [path] = saves.files.rglob("*.csv")
    assert path == saves.files / told["path"]
    assert path.read_text() == "n\n" + "".join(f"{n}\n" for n in range(10000))
