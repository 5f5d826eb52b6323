"""A step costs no more in a long execution than in a short one: by counts, on a real platform. And the rest can run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from django.conf import settings


def test_a_step_costs_the_same_in_long_executions(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    # What has no law is measured all the same: that it can be is what is kept. In a process of its own, as the peers'
    # Celery would become that of the tests.
    command = [sys.executable, "-m", "benchmarks", "--only", "G,POSTGRES,HTTP", "--short", "--repeat", "1", "--check"]
    run = subprocess.run(
        [*command, "--json", str(written)], check=False, capture_output=True, text=True, cwd=settings.BASE_DIR
    )
    table = run.stdout
    assert run.returncode == 0, table + run.stderr
    found = json.loads(written.read_text())["rows"]
    assert {row["id"] for row in found} == {"G", "POSTGRES", "HTTP"}
    rows = [row for row in found if row["id"] == "G"]
    assert [row["met"] for row in rows] == [True] * 4, table
    # That something was counted at all: each step is committed, and tells what happened.
    [transactions] = [row for row in rows if row["workload"].startswith("transactions")]
    assert transactions["figure"] > 0


def test_each_level_of_isolation_has_its_cost_in_the_table(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    # Without `--check`: its target is a time, and this machine may be busy.
    command = [sys.executable, "-m", "benchmarks", "--only", "SANDBOX", "--short", "--repeat", "2"]
    run = subprocess.run(
        [*command, "--json", str(written)], check=False, capture_output=True, text=True, cwd=settings.BASE_DIR
    )
    assert run.returncode == 0, run.stdout + run.stderr
    first, *levels = json.loads(written.read_text())["rows"]
    assert first["workload"] == "turn, beyond a bare call"
    assert first["target"] == {"relation": "<=", "bound": 0.5}
    assert [row["workload"] for row in levels][:3] == ["turn", "turn of one step", "job"]
    assert all(row["peer"]["name"] == "bare fork" and len(row["samples"]) == 2 for row in levels)
    # A child of its own costs more than a warm one, however busy the machine is.
    turn, _, job, *_ = (row["figure"] for row in levels)
    assert 0 < turn < job
