"""An event that signals set, asked about by the thread that they interrupt."""

from __future__ import annotations

import subprocess
import sys

STORM = """
import signal, time
from executors.worker.drain import StopEvent
stop = StopEvent()
signal.signal(signal.SIGALRM, lambda *_: stop.set())
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
for _ in range(30_000):
    stop.wait(0.0001)
    stop.clear()
print("through")
"""


def test_a_signal_may_come_at_any_moment_of_a_wait() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "through\n", done.stderr
