"""A step costs no more in a long execution than in a short one: by counts, on a real platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main


def test_a_step_costs_the_same_in_long_executions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "bench.json"
    code = main(["--only", "G", "--short", "--check", "--json", str(written)])
    table = capsys.readouterr().out
    assert code == 0, table
    rows = json.loads(written.read_text())["rows"]
    assert [row["met"] for row in rows] == [True] * 4, table
    # That something was counted at all: each step is committed, and tells what happened.
    [transactions] = [row for row in rows if row["workload"].startswith("transactions")]
    assert transactions["figure"] > 0
