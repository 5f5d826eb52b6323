"""The map of the corpus (`tests/playbooks/MAP.md`): whatever it names is there, and it names every playbook."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.corpus import FOLDER

ROOT = FOLDER.parents[1]
TEXT = (FOLDER / "MAP.md").read_text(encoding="utf-8")
GROUPS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())
NAMES = re.findall(r"`(\w+/[\w*]+)`", TEXT)
TESTS = re.findall(r"`(tests/[a-z0-9_/]+\.py::\w+)`", TEXT)


def playbooks_of(name: str) -> list[Path]:
    """The playbooks that a name of the map stands for."""
    found = FOLDER.glob(f"{name}.yaml")
    return [file for file in found if not file.name.endswith((".expected.yaml", ".child.yaml"))]


def test_every_playbook_that_it_names_is_there() -> None:
    assert [name for name in NAMES if not playbooks_of(name)] == []


def test_every_test_that_it_names_is_there() -> None:
    missing = []
    for name in TESTS:
        file, _, function = name.partition("::")
        if not (ROOT / file).is_file() or f"def {function}(" not in (ROOT / file).read_text(encoding="utf-8"):
            missing.append(name)
    assert TESTS and missing == []


def test_every_playbook_is_named() -> None:
    named = {file for name in NAMES for file in playbooks_of(name)}
    every = {file for group in GROUPS for file in playbooks_of(f"{group}/*")}
    assert sorted(str(file.relative_to(FOLDER)) for file in every - named) == []


def test_every_line_names_something() -> None:
    rows = [
        line for line in TEXT.splitlines() if line.startswith("|") and not line.startswith(("|---", "| row", "| sent"))
    ]
    shown = [row.rstrip(" |").rpartition(" | ")[2] for row in rows if "| shown by |" not in row]
    assert shown and [cell for cell in shown if not (re.search(r"`[a-z]+/", cell))] == []
