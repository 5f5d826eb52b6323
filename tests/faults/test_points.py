"""The short form of the crash points: a few of one way, others each day; `make faults PART=points` has all."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.points import WAYS
from tests.support.platform import ROOT

SAMPLE = 12


def test_a_sample_of_crash_points_loses_nothing(tmp_path: Path) -> None:
    """In a process of its own, which forks: this one has threads. What it prints tells how to repeat a point."""
    today = datetime.now(UTC).toordinal()
    way = WAYS[today % len(WAYS)].name
    chosen = ["--way", way, "--sample", str(SAMPLE), "--seed", str(today), "--state", str(tmp_path)]
    command = [sys.executable, "-m", "tests.faults", "points", *chosen]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SAMPLE} crash points of 1 ways" in done.stdout
