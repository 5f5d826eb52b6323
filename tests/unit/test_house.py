"""The walls of the house: each import contract, and the ban on clocks and dice, was seen to fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
TREES = ("catalog", "executions", "queueing", "executors", "noetl_site", "benchmarks", "tests/support")
FILES = ("pyproject.toml", "tests/__init__.py")

# Contract id -> (file, the line planted at its end).
PLANTED = {
    "apps": ("catalog/errors.py", "import executions.errors"),
    "floors": ("queueing/store.py", "import queueing.services"),
    "executors": ("executors/actions/python.py", "import executors.credentials.store"),
    "pure": ("executions/domain/events.py", "import django.utils.timezone"),
    "kinds": ("executors/actions/duckdb/kind.py", "import executors.actions.http"),
    "door_executions": ("executions/services/starting.py", "import queueing.store"),
    "door_executors": ("executors/tasks.py", "import executions.models"),
    "door_site": ("noetl_site/__init__.py", "import catalog.store"),
    "drawers": ("queueing/domain/utils.py", ""),
}
# A new file that no floor names: what makes the lists of floors exhaustive.
HOMELESS = {"floors": "catalog/attic.py", "executors": "executors/attic.py"}

# What writes the event log, and the folders where it may stand (rule R1).
WRITING: dict[str, tuple[str, ...]] = {
    r"append_(first_)?events": ("executions/services", "executions/store", "executions/sql"),
    r"INTO (noetl\.)?event_log": ("executions/sql",),
    r"(?<!class )EventLog\(|EventLog\.objects\.(bulk_)?(create|update)": (),
}

CONTRACTS = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the Python files, free to be spoilt."""
    sources = [path for tree in TREES for path in (ROOT / tree).rglob("*.py")]
    for source in [*sources, *(ROOT / name for name in FILES)]:
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return tmp_path


def run(program: str, *arguments: str, folder: Path) -> tuple[int, str]:
    """Exit code and what was said by a program of this environment, run in the folder."""
    done = subprocess.run(
        [SCRIPTS / program, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def plant(folder: Path, name: str, line: str) -> None:
    with (folder / name).open("a") as file:
        file.write(f"\n{line}\n")


def test_the_house_stands(house: Path) -> None:
    code, said = run("lint-imports", "--no-cache", folder=house)
    assert code == 0, said


def test_each_contract_is_tried() -> None:
    assert set(PLANTED) == set(CONTRACTS)


@pytest.mark.parametrize(
    ("contract", "name", "line"),
    [
        *((contract, *planted) for contract, planted in PLANTED.items()),
        *((contract, name, "") for contract, name in HOMELESS.items()),
    ],
)
def test_a_broken_wall_is_seen(house: Path, contract: str, name: str, line: str) -> None:
    plant(house, name, line)
    code, said = run("lint-imports", "--no-cache", "--contract", contract, folder=house)
    assert code == 1, said
    assert f"{CONTRACTS[contract]} BROKEN" in " ".join(said.split())
    module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    assert module.rpartition(".")[2] in said.split("Broken contracts")[1], said


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "import random",
        "import os",
        "import subprocess",
        "from uuid import uuid4",
        "from datetime import datetime; NOW = datetime.now()",
    ],
)
def test_the_domain_has_no_clock_and_no_dice(house: Path, line: str) -> None:
    for name in ("catalog/domain/codec.py", "executions/domain/deep/__init__.py", "catalog/store.py"):
        (house / name).parent.mkdir(exist_ok=True)
        plant(house, name, line)
    code, said = run(
        "ruff", "check", "--no-cache", "--select", "TID251", "--output-format", "concise", ".", folder=house
    )
    assert code == 1, said
    named = {found.split(":")[0] for found in said.splitlines() if "TID251" in found}
    assert named == {"catalog/domain/codec.py", "executions/domain/deep/__init__.py"}


def writers(folder: Path) -> list[str]:
    """Files of the product that write the event log, or change it, and may not."""
    files = [file for tree in TREES[:-1] for kind in ("py", "sql") for file in (folder / tree).rglob(f"*.{kind}")]
    return [
        name
        for file in files
        for pattern, allowed in WRITING.items()
        if re.search(pattern, file.read_text()) and not (name := str(file.relative_to(folder))).startswith(allowed)
    ]


def test_only_the_services_of_executions_write_the_event_log() -> None:
    assert writers(ROOT) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("executions/rendering.py", "store.append_events(1, [])"),
        ("executors/tasks.py", "from executions.store import append_first_events"),
        ("executors/retention.py", 'STATEMENT = "INSERT INTO event_log SELECT 1"'),
        ("executions/services/starting.py", "EventLog.objects.bulk_create([])"),
        ("executions/selectors.py", "EventLog(seq=1).save()"),
    ],
)
def test_another_writer_of_the_event_log_is_seen(house: Path, name: str, line: str) -> None:
    plant(house, name, line)
    assert writers(house) == [name]
