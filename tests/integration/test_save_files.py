"""Playbooks that save into files and buckets, run by the local broker with the real kinds of actions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from catalog.api import validate_text
from executors.contract import ActionKind, Credential
from executors.local import LocalRun
from executors.registry import build_registry
from tests.support.answering import answering
from tests.support.clouds import GoogleCloud
from tests.support.kinds import settings_with

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: saving\npath: tests/saving\nworkload: {place: '', auth: lake}\n"


@pytest.fixture(scope="module")
def kinds() -> Iterator[Mapping[str, ActionKind]]:
    registry = build_registry(settings_with(NOETL_HTTP_ALLOWED_NETWORKS=("127.0.0.0/8",)))
    yield registry
    for kind in registry.values():
        kind.close()


class Runs:
    """Runs playbooks whose saves go to one storage; `SAVE` in a text stands for where that is."""

    def __init__(self, kinds: Mapping[str, ActionKind], data_dir: Path, storage: str, credential: Credential) -> None:
        self._kinds, self._data_dir, self._storage, self._credential = kinds, data_dir, storage, credential
        self.cloud: GoogleCloud | None = None

    def run(self, steps: str) -> Any:
        """The result of a playbook that completes."""
        engine = self.ends(steps)
        assert (engine.status, engine.error) == ("completed", None)
        return engine.result

    def ends(self, steps: str) -> Any:
        """The execution, however it ended."""
        where = {
            "file": "storage: file, spec: {path: out/rows.jsonl}",
            "gcs": "storage: gcs, auth: lake, spec: {url: 'gs://lake/out/rows.jsonl'}",
        }[self._storage]
        playbook, problems = validate_text(HEAD + steps.replace("SAVE", where))
        assert playbook is not None and not problems, problems
        given = {"lake": self._credential}
        run = LocalRun(playbook, kinds=self._kinds, credentials=given, data_dir=self._data_dir, execution_id="77")
        run.run()
        return run.root.engine

    def parts(self) -> dict[str, list[Any]]:
        """The rows of every file below `out`, by its name there."""
        folder = self._data_dir / "files" / "77"
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        if self.cloud is not None:
            found = {name.removeprefix("lake/"): content for name, content in self.cloud.objects.items()}
        return {name: [json.loads(line) for line in content.splitlines()] for name, content in found.items()}


@pytest.fixture(params=["file", "gcs"])
def runs(request: pytest.FixtureRequest, kinds: Mapping[str, ActionKind], tmp_path: Path) -> Iterator[Runs]:
    cloud = GoogleCloud()
    with answering(cloud.answer) as server:
        found = Runs(kinds, tmp_path, request.param, cloud.account(server.url))
        found.cloud = cloud if request.param == "gcs" else None
        yield found


EACH = """
workflow:
  - step: start
    type: python
    loop:
      in: [0, 1, 2, 3, 4]
      iterator: n
      save: {SAVE, %s data: {n: "{{ n }}", square: "{{ data }}"}}
    with: {n: "{{ n }}"}
    code: "def main(n): return n * n"
    next: end
  - {step: end, result: "{{ steps.start.meta.item_saves }}"}
"""


@pytest.mark.parametrize(
    ("options", "sizes"), [("", [5]), ("chunk_size: 2,", [1, 2, 2]), ("batch: false,", [1, 1, 1, 1, 1])]
)
def test_items_are_saved_in_chunks_that_do_not_meet(runs: Runs, options: str, sizes: list[int]) -> None:
    assert runs.run(EACH % options) == {"items": 5, "errors": []}
    parts = runs.parts()
    assert sorted(map(len, parts.values())) == sizes
    assert all(name.startswith("out/rows/77-start-save-") for name in parts)
    rows = sorted((row for rows in parts.values() for row in rows), key=lambda row: row["n"])
    assert rows == [{"n": n, "square": n * n} for n in range(5)]


WHEN_AND_ON = """
workflow:
  - {step: start, next: [good, bad, not_now, not_so]}
  - {step: good, type: python, code: "def main(): return {'n': 1}", save: {SAVE, when: "{{ data.n == 1 }}"}}
  - {step: not_now, type: python, code: "def main(): return {'n': 1}", save: {SAVE, when: "{{ data.n == 2 }}"}}
  - {step: not_so, type: python, code: "def main(): return {'n': 1}", save: {SAVE, on: error}}
  - step: bad
    type: python
    code: "def main(): raise ValueError('no stock')"
    on_error: continue
    save: {SAVE, on: error, data: {message: "{{ error.message }}"}}
  - step: end
    result:
      saved: ["{{ steps.good.meta.save.rows }}", "{{ steps.bad.meta.save.rows }}"]
      not: ["{{ steps.not_now.meta }}", "{{ steps.not_so.meta }}"]
"""


def test_when_and_on_say_whether_it_is_saved(runs: Runs) -> None:
    assert runs.run(WHEN_AND_ON) == {"saved": [1, 1], "not": [{}, {}]}
    assert sorted(map(str, runs.parts().values())) == ["[{'message': 'ValueError: no stock'}]", "[{'n': 1}]"]


FAILING = """
workflow:
  - step: start
    type: python
    code: "def main(): return 'no row'"
    save: {SAVE, format: csv%s}
    next: end
  - {step: end, result: "{{ steps.start.meta.save_error }}"}
"""


def test_a_save_that_fails_is_told_or_fails_the_step(runs: Runs) -> None:
    told = runs.run(FAILING % "")
    assert told["code"] == "arguments_invalid" and "index 0" in told["message"]
    engine = runs.ends(FAILING % ", on_error: fail")
    assert (engine.status, engine.error["code"]) == ("failed", "save_failed")
    assert engine.error["cause"]["code"] == "arguments_invalid"
    assert runs.parts() == {}


OVERWRITING = """
workflow:
  - step: start
    type: python
    code: "def main(): return [{'n': 1}, {'n': 2}]"
    save: {SAVE, mode: overwrite}
    next: more
  - {step: more, type: save, save: {SAVE, data: {n: 3}}, next: last}
  - {step: last, type: save, save: {SAVE, mode: overwrite, data: {n: 4}}, next: end}
  - {step: end, result: "{{ [steps.start.meta.save.rows, more.rows, last.rows] }}", save: {SAVE, data: {n: 5}}}
"""


def test_what_is_overwritten_and_what_is_appended_stand_apart(runs: Runs) -> None:
    assert runs.run(OVERWRITING) == [2, 1, 1]
    parts = runs.parts()
    assert parts.pop("out/rows.jsonl") == [{"n": 4}]
    assert sorted(parts.values(), key=str) == [[{"n": 3}], [{"n": 5}]]


VISITS = """
workflow:
  - {step: start, next: act}
  - step: act
    type: python
    with: {n: "{{ (act.n | default(0)) + 1 }}"}
    code: "def main(n): return {'n': n}"
    save: {SAVE}
    next: [{when: "{{ act.n < 3 }}", then: act}, {else: end}]
  - {step: end}
"""


def test_each_visit_of_a_step_appends(runs: Runs) -> None:
    runs.run(VISITS)
    assert sorted(runs.parts().values(), key=str) == [[{"n": 1}], [{"n": 2}], [{"n": 3}]]
