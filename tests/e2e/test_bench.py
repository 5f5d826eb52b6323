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
