"""Parts of the suite that are tests of pytest: run, counted, and not run again when they have passed before."""

from __future__ import annotations

import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.faults.progress import Broken, Progress, tell
from tests.faults.pytests import run_pytest
from tests.support.platform import ROOT

SCHEDULES: Final = (
    "tests/faults/test_fleets.py",
    "tests/faults/test_kills.py",
    "tests/faults/test_points.py",
    "tests/faults/test_processes.py",
    "tests/faults/test_restarts.py",
    "tests/faults/test_schedules.py",
    "tests/faults/test_servers.py",
    "tests/integration/test_forced_schedules.py",
    "tests/integration/test_full_hands.py",
    "tests/integration/test_prepared_statements.py",
)
FILE_SECONDS: Final = 600
"""What a file may take: with less time left none is begun, so that the part ends in time whatever hangs."""
DEGRADE: Final = ("tests/faults/test_degrading.py", "tests/faults/test_poison.py")


def run(part: str, progress: Progress, files: Sequence[str]) -> bool:
    """Run the tests of these files, file by file. Returns: whether all were run in time. Raises: `Broken`."""
    done: dict[str, int] = progress.state.setdefault("done", {})
    is_begun = False
    for file in files:
        if file in done:
            continue
        # The first one is begun however short the time is: who gives little gets on all the same.
        if is_begun and progress.left_seconds < FILE_SECONDS:
            return False
        is_begun = True
        done[file] = _passed(file, max(progress.left_seconds, FILE_SECONDS))
        progress.save()
        tell(f"{part}: {file}: {done[file]} passed")
    tell(f"{part}: {sum(done.values())} tests in {len(done)} files passed, 0 failed")
    return True


def _passed(file: str, seconds: float) -> int:
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        try:
            done = run_pytest(ROOT, [f"--junit-xml={report.name}", file], seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"{file} hangs; repeat it with: pytest {file}") from None
        if done.returncode:
            raise Broken(f"repeat it with: pytest {file}\n{done.stdout[-4000:]}")
        suite = ElementTree.parse(Path(report.name)).getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "skipped", "failures", "errors")}
    if counts["skipped"]:
        tell(f"{file}: {counts['skipped']} skipped")
    return counts["tests"] - counts["skipped"]
