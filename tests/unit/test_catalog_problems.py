"""Every problem a playbook can have, with its exact place: tests/playbooks/broken/*.yaml say it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalog.api import validate_text
from catalog.domain.normalise import read_playbook
from tests.support.catalog_kinds import SCHEMAS

ROOT = Path(__file__).parents[2]
BROKEN = sorted((ROOT / "tests" / "playbooks" / "broken").glob("*.yaml"))
EXPECTED = re.compile(r"^# expect (\d+:\d+ (?:error|warning) \w+)$", re.MULTILINE)
ELSEWHERE = {"yaml_too_large"}
"""Tested in test_catalog_parser: its file would be a megabyte."""


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_problems_are_found_where_they_are(file: Path) -> None:
    text = file.read_text()
    playbook, problems = read_playbook(text, SCHEMAS)
    found = [f"{p.line}:{p.column} {p.severity} {p.code}" for p in problems]
    assert found == EXPECTED.findall(text)
    assert found
    assert (playbook is None) == any(p.severity == "error" for p in problems)
    assert all(p.message and "\n" not in p.message and len(p.message) < 500 for p in problems)


def test_every_code_has_a_broken_playbook() -> None:
    source = "".join(file.read_text() for file in (ROOT / "catalog" / "domain").glob("*.py"))
    call = r"(?:\.error|\.warn|\btell|Problem|_problem|_stop)\(\s*\"(\w+)\""
    codes = set(re.findall(call, source)) | {
        "duplicate_step",
        "duplicate_task",
        "missing_name",
        "missing_path",
    }
    shown = {line.split()[2] for file in BROKEN for line in EXPECTED.findall(file.read_text())}
    assert codes - ELSEWHERE == shown


def test_advice_names_the_step_and_the_key() -> None:
    text = (ROOT / "tests" / "playbooks" / "broken" / "template_syntax.yaml").read_text()
    messages = [problem.message for problem in read_playbook(text, SCHEMAS)[1]]
    assert "correct the template in `command` of the step start: there is no filter `nope`" in messages


def test_twelve_problems_are_told_in_one_run() -> None:
    text = (ROOT / "tests" / "playbooks" / "broken" / "twelve.yaml").read_text()
    playbook, problems = read_playbook(text, SCHEMAS)
    assert playbook is None
    assert [(problem.code, problem.line, problem.column) for problem in problems] == [
        ("invalid_path", 4, 7),
        ("unknown_target", 7, 20),
        ("unknown_type", 16, 11),
        ("wrong_value", 18, 12),
        ("unknown_task", 22, 11),
        ("template_syntax", 23, 15),
        ("missing_argument", 27, 5),
        ("loop_body_leaves", 29, 21),
        ("step_cannot_have_run", 32, 17),
        ("unreachable_step", 36, 5),
        ("unknown_name", 37, 11),
        ("join_never_fires", 40, 11),
    ]


def test_the_load_mode_is_told_in_sql() -> None:
    text = (ROOT / "tests" / "playbooks" / "broken" / "duckdb_load_mode.yaml").read_text()
    [problem] = validate_text(text)[1]
    assert "read_csv('gs://BUCKET/BLOB')" in problem.message
