"""Fleets of Celery workers of the test's own, beside those of the platform: with a false clock, or of other code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.faulty import Faulty
from tests.support.inspection import wait_for
from tests.support.platform import ROOT, STOP_SECONDS

WORKER = ("-A", "noetl_site", "worker", "-Q", "noetl.default", "-c", "1", "--without-mingle", "--without-gossip")
FALSE_CLOCK = """
import sys
from datetime import timedelta

import time_machine
from celery.__main__ import main

time_machine.travel(timedelta(seconds=float(sys.argv.pop(1))), tick=True).start()
main()
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """One process that takes jobs, and its parent."""

    parent: psutil.Process

    @property
    def pids(self) -> list[int]:
        """Of the processes below its parent."""
        return [child.pid for child in self.parent.children(recursive=True)]


@contextmanager
def fleet(faulty: Faulty, name: str, *, tree: Path = ROOT, ahead_seconds: float = 0) -> Iterator[Fleet]:
    """A fleet that runs a tree's code, its clock so far ahead; told to stop in the end, which it has to do in time."""
    how = ["-c", FALSE_CLOCK, str(ahead_seconds)] if ahead_seconds else ["-m", "celery"]
    env = {**faulty.platform.env, "NOETL_WORKER_POOL_NAME": name}
    with (faulty.platform.data_dir / "logs" / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *how, *WORKER, "-n", f"{name}@%h"], cwd=tree, env=env, stdout=log, stderr=log
        )
    try:
        here = "SELECT count(*) FROM runtime WHERE name = %s AND status = 'ready' AND (runtime->>'pid')::int = %s"
        wait_for(lambda: faulty.query(here, name, process.pid) == [(1,)])
        yield Fleet(psutil.Process(process.pid))
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0, faulty.log_of(name)
    finally:
        process.kill()
        process.wait()
