"""The short form of the soak: some faults at random, others each day; `make faults PART=soak` has a thousand."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.support.platform import ROOT

KILLS = 20
JOBS = 400


def test_a_rain_of_faults_loses_nothing(tmp_path: Path) -> None:
    """In a process of its own, on a platform of its own. What it prints tells how to repeat it."""
    today = datetime.now(UTC).toordinal()
    chosen = ["--kills", str(KILLS), "--jobs", str(JOBS), "--seed", str(today), "--state", str(tmp_path)]
    command = [sys.executable, "-m", "tests.faults", "soak", *chosen]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 accepted twice, 0 stuck" in done.stdout
