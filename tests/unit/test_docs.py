"""The documents say what is there."""

from __future__ import annotations

import re
from pathlib import Path

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.normalise import read_playbook
from executions.failpoints import POINTS
from executors.management.actions_page import document_of
from executors.registry import argument_schemas, find_kinds
from noetl_site import exits

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_in_the_table_and_every_row_is_a_setting() -> None:
    code = "".join((ROOT / "noetl_site" / name).read_text() for name in ("settings.py", "web.py"))
    read = re.compile(
        r"(?:\benv(?:\.\w+)?|boolean|words|networks|number|one_of|pools(?:_by_kind)?|secret|_secret_or_kept|environ\.get)"
        r'\(\s*"([A-Z_]+)"'
    )
    table = re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert set(table) == set(read.findall(code))
    assert len(table) == len(set(table))


def test_every_exit_code_is_told() -> None:
    told = (ROOT / "docs" / "operations.md").read_text().partition("Exit codes:")[2].partition("\n\n")[0]
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"(\d+) ", told)} == codes - {exits.TERMINATED}


def test_links_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_examples_and_the_readmes_playbook_are_valid_without_a_warning() -> None:
    texts = [file.read_text() for file in (ROOT / "examples").glob("*.yaml")]
    texts += re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(texts) == 8
    for text in texts:
        playbook, problems = read_playbook(text, ActionSchemas(argument_schemas()))
        assert (playbook is not None, problems) == (True, ())


def test_the_readmes_playbook_is_the_example() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    schemas = ActionSchemas(argument_schemas())
    shown, _ = read_playbook(text, schemas)
    shipped, _ = read_playbook((ROOT / "examples" / "hello.yaml").read_text(), schemas)
    assert shown is not None
    assert shipped is not None
    assert shown.steps == shipped.steps


def test_the_pages_of_the_action_kinds_are_what_the_kinds_say() -> None:
    built_in = [found for found in find_kinds().kinds.values() if found.origin == "built in"]
    assert (ROOT / "docs" / "actions.md").read_text() == document_of(built_in), "run `make actions`"


def test_every_failpoint_is_told() -> None:
    table = (ROOT / "docs" / "reliability.md").read_text().partition("| point | where |")[2]
    told = re.findall(r"`([a-z.]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "`" in line))
    assert sorted(told) == sorted(POINTS)


def test_every_test_of_a_fault_that_is_told_is_there() -> None:
    files = [file for folder in ("faults", "integration") for file in (ROOT / "tests" / folder).glob("test_*.py")]
    tests = "".join(file.read_text() for file in files)
    told = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text())
    assert len(told) > 10
    assert [name for name in told if f"def {name}(" not in tests] == []
