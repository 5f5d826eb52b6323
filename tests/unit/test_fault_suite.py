"""The fault suite's own tools."""

from __future__ import annotations

import ast
import time
from functools import cache
from pathlib import Path

import pytest

from tests.faults import mutants, progress, tested
from tests.faults.mutants import MUTANTS, NAMED, Mutant
from tests.faults.pytests import run_pytest
from tests.settings import FOLDER
from tests.support.platform import ROOT

LOOK = f"import os\n\ndef test_folder():\n    assert {FOLDER!r} not in os.environ\n"


def test_a_run_of_tests_does_not_get_the_callers_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would remove it at its end, with the servers that the caller goes on to use."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    (tmp_path / "test_folder.py").write_text(LOOK)
    done = run_pytest(tmp_path, ["-p", "no:django", "test_folder.py"], seconds=60)
    assert done.returncode == 0, done.stdout


@cache
def names_of_tests(file: str) -> set[str]:
    """The names of a file's tests."""
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_one_place_and_its_test(mutant: Mutant) -> None:
    """Or else whoever runs it, who seldom does, finds nothing to break, or nothing that would tell."""
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    file, _, test = mutant.test.partition("::")
    assert test.partition("[")[0] in names_of_tests(file)


def test_what_must_be_guarded_is_by_mutants_that_exist() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert {name for guards in NAMED.values() for name in guards} <= set(names)


def test_tests_run_together_have_time_for_each() -> None:
    assert mutants.seconds_for(1) == mutants.TEST_SECONDS
    assert mutants.seconds_for(40) >= 600


def test_no_file_is_begun_that_could_end_after_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour is half an hour: a file that hangs may take what is left, and no more."""
    run: list[tuple[str, float]] = []

    def note(file: str, seconds: float) -> int:
        run.append((file, seconds))
        part.deadline -= 100
        return 1

    monkeypatch.setattr(tested, "_passed", note)
    part = progress.Progress(tmp_path / "part.json", time.monotonic() + tested.FILE_SECONDS + 50, {})
    assert not tested.run("part", part, ["one", "two"])
    [(file, seconds)] = run
    assert file == "one" and tested.FILE_SECONDS < seconds <= tested.FILE_SECONDS + 50
    # Called again it goes on, and with little time it does one file at least.
    part.deadline = time.monotonic() + 1
    assert tested.run("part", part, ["one", "two"])
    assert run[1:] == [("two", tested.FILE_SECONDS)]
