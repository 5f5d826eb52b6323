"""An event that signals set, asked about by the thread that they interrupt."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.sharedctypes import RawValue

import pytest

from executors.worker import drain

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


def test_a_fork_with_a_word_of_its_own_tells_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "_word", RawValue("b", 0))
    for own, heard in ((True, False), (False, True)):
        pid = os.fork()
        if pid == 0:
            if own:
                drain.have_own_word()
            drain.begin()
            os._exit(0)
        os.waitpid(pid, 0)
        assert drain.has_begun() is heard
