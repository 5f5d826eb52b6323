"""The supervisor with programs of its own, in a process of its own: it forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
from django.conf import settings

from noetl_site.embedded.processes import wait_until

PREPARED: Final = """
import atexit, os, signal, sys, threading
from pathlib import Path
from noetl_site.supervisor import Program, Supervisor

loaded = []

def fail():
    raise ValueError("no way")

def stay():
    atexit.register(lambda: print("gone by the door"))
    print("here", loaded, Path.cwd().name)
    signal.pause()

def cling():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf")
    while True:
        signal.pause()

class Restless:
    # The last that a program does is to flush this: then it is told to end once more.
    def flush(self):
        signal.raise_signal(signal.SIGTERM)

def hurry():
    sys.stdout = Restless()
    sys.exit(3)

def say():
    sys.exit("no room")

mains = {"fail": fail, "stay": stay, "cling": cling, "leave": lambda: sys.exit(3)}
mains |= {"hurry": hurry, "say": say}
folder = Path(sys.argv[1])
programs = [Program(name, lambda n=name: loaded.append(n), mains[name], stop_seconds=0.5) for name in sys.argv[2:]]
supervisor = Supervisor(programs, folder, folder / "logs", lambda: None)
stop, own = threading.Event(), os.getpid()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
try:
    supervisor.start()
    print("started", flush=True)
    supervisor.watch(stop)
finally:
    supervisor.stop()
    if os.getpid() != own:
        print("here a program stops them all", file=sys.stderr)
"""


@contextmanager
def supervised(folder: Path, *programs: str) -> Iterator[psutil.Popen]:
    command = [sys.executable, "-c", PREPARED, str(folder), *programs]
    with psutil.Popen(
        command, cwd=settings.BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        below: list[psutil.Process] = []
        try:
            assert process.stdout.readline() == "started\n"
            below = process.children()
            yield process
        finally:
            for left in (process, *below):
                with suppress(psutil.NoSuchProcess):
                    left.kill()


def _log_has(folder: Path, name: str, text: str) -> bool:
    return wait_until(lambda: text in (folder / "logs" / f"{name}.log").read_text(), 10)


def _stopped(process: psutil.Popen) -> str:
    process.terminate()
    told = process.stderr.read()
    assert process.wait(10) == 0
    return str(told)


def test_a_program_has_what_was_loaded_and_ends_by_the_door(tmp_path: Path) -> None:
    with supervised(tmp_path, "stay") as process:
        assert _log_has(tmp_path, "stay", f"here ['stay'] {tmp_path.name}")
        [child] = process.children()
        assert child.cmdline()[0] == "noetl: stay" and os.getsid(child.pid) == child.pid
        assert _stopped(process) == ""
        assert not child.is_running()
    assert "gone by the door" in (tmp_path / "logs" / "stay.log").read_text()


def test_a_program_that_fails_tells_why_and_is_started_again(tmp_path: Path) -> None:
    with supervised(tmp_path, "fail") as process:
        assert wait_until(lambda: (tmp_path / "logs" / "fail.log").read_text().count("ValueError: no way") > 1, 10)
        assert "fail ended with 1, starting it again in 1 s" in _stopped(process)


def test_a_program_may_say_how_it_ended(tmp_path: Path) -> None:
    with supervised(tmp_path, "leave") as process:
        log = tmp_path / "logs" / "leave.log"
        assert wait_until(lambda: log.exists() and not process.children(), 10)
        assert "leave ended with 3" in _stopped(process)
        assert log.read_text() == ""


def test_a_program_that_ends_with_a_text_tells_it(tmp_path: Path) -> None:
    with supervised(tmp_path, "say") as supervisor:
        assert _log_has(tmp_path, "say", "no room")
        assert wait_until(lambda: not supervisor.children(), 10)
        assert "say ended with 1" in _stopped(supervisor)


def test_a_signal_at_the_end_of_a_program_does_not_make_it_a_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, "stay", "hurry") as supervisor:
        assert _log_has(tmp_path, "stay", "here")
        assert wait_until(lambda: len(supervisor.children()) < 2, 10)
        assert "hurry ended with 3" in _stopped(supervisor)
    assert "here a program stops them all" not in (tmp_path / "logs" / "hurry.log").read_text()


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, "cling", "stay") as process:
        assert _log_has(tmp_path, "cling", "deaf") and _log_has(tmp_path, "stay", "here ['cling', 'stay']")
        children = process.children()
        assert "cling did not stop in time and is killed" in _stopped(process)
        assert not any(child.is_running() for child in children)


def test_programs_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, "stay") as process:
        assert _log_has(tmp_path, "stay", "here")
        [child] = process.children()
        process.send_signal(signal.SIGKILL)
        assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)
    assert "gone by the door" in (tmp_path / "logs" / "stay.log").read_text()
