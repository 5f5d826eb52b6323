"""Keeps a few programs running: starts them, restarts those that die, stops them.

Knows processes, signals and log files; nothing of what the programs do. A program is a function in a fork of the
supervisor, so what is loaded is held once for all of them, and none of them loads it again. Each is the leader of its
own session, so a Ctrl-C in the terminal reaches only the supervisor, and gets a SIGTERM when the supervisor is killed.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Final, NoReturn

import psutil
from setproctitle import setproctitle

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.1
STEADY_SECONDS: Final = 30.0
"""A program that ran this long had no trouble starting."""
FIRST_PAUSE_SECONDS: Final = 0.5
LAST_PAUSE_SECONDS: Final = 30.0
MAX_LOG_BYTES: Final = 10 * 1024 * 1024
PR_SET_PDEATHSIG: Final = 1
TOLD_TO_END: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be kept running. `stop_seconds` are between SIGTERM and SIGKILL."""

    name: str
    load: Callable[[], object]
    """Imports what it needs; called once, in the supervisor, before anything is started."""
    main: Callable[[], int]
    """All that it does, in a process of its own. Returns: its exit code; `SystemExit` tells one, too."""
    stop_seconds: float


@dataclass(slots=True)
class _Child:
    program: Program
    process: psutil.Process | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float = field(default=float("-inf"))


class Supervisor:
    """The programs of one platform. All methods are for the thread that made it: a child dies with its thread."""

    def __init__(self, programs: Sequence[Program], folder: Path, logs: Path, let_go: Callable[[], None]) -> None:
        """`programs` are started in this order, in `folder`. `let_go` closes what no other process may share."""
        self._children = [_Child(program) for program in programs]
        self._folder = folder
        self._logs = logs
        self._let_go = let_go

    def start(self) -> None:
        """Start every program."""
        self._logs.mkdir(mode=0o700, exist_ok=True)
        for child in self._children:
            child.program.load()
        # The collector, which writes to all it looks through, would make copies of what the programs share.
        gc.collect()
        gc.freeze()
        for child in self._children:
            self._start(child)

    def pid_of(self, name: str) -> int | None:
        """The pid of a program that runs."""
        for child in self._children:
            if child.program.name == name and child.process is not None and _code(child.process) is None:
                return int(child.process.pid)
        return None

    def log_of(self, name: str) -> Path:
        """Where a program writes."""
        return self._logs / f"{name}.log"

    def watch(self, stop: Event, until: Callable[[], bool] = lambda: False) -> bool:
        """Restart what dies, until told to stop or until the condition holds. Returns: whether it held."""
        while not stop.is_set():
            for child in self._children:
                self._look_after(child)
            if until():
                return True
            stop.wait(TICK_SECONDS)
        return False

    def stop(self) -> None:
        """Stop the programs together; what does not end in its time is killed with all its descendants."""
        running = [(child.program, child.process) for child in self._children if child.process is not None]
        stopped_at = time.monotonic()
        for _, process in running:
            if _code(process) is None:
                process.terminate()
        for program, process in running:
            try:
                process.wait(max(0.0, stopped_at + program.stop_seconds - time.monotonic()))
            except psutil.TimeoutExpired:
                logger.warning("%s did not stop in time and is killed", program.name)
            _kill_session(process)

    def _start(self, child: _Child) -> None:
        log = self.log_of(child.program.name)
        _rotate(log)
        self._let_go()
        parent = os.getpid()
        # What waits to be written here would be written there as well.
        sys.stdout.flush()
        sys.stderr.flush()
        with log.open("ab") as output, _deaf():
            pid = os.fork()
            if pid == 0:
                self._become(child.program, output.fileno(), parent)
        child.process = psutil.Process(pid)
        child.started_at = time.monotonic()

    def _become(self, program: Program, output: int, parent: int) -> NoReturn:
        """Be this program in the process just forked, and end with it."""
        code = 1
        try:
            try:
                os.setsid()
                _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() == parent:
                    _write_to(output)
                    _hear_again()
                    os.chdir(self._folder)
                    setproctitle(f"noetl: {program.name}")
                    code = program.main()
            except SystemExit as end:
                code = _said(end)
            except BaseException:  # the end of a process: told in its log, whatever it was
                traceback.print_exc()
            signal.pthread_sigmask(signal.SIG_BLOCK, TOLD_TO_END)
            with suppress(Exception):
                # As at the end of any interpreter; a fork ends without.
                atexit._run_exitfuncs()
                sys.stdout.flush()
        finally:
            # Whatever comes, a signal at any moment too: nothing may climb into the supervisor's own calls.
            os._exit(code)

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.restart_at:
                self._start(child)
            return
        if (code := _code(child.process)) is None:
            return
        _kill_session(child.process)
        child.failures = 0 if now - child.started_at >= STEADY_SECONDS else child.failures + 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(child.failures, 10), LAST_PAUSE_SECONDS)
        name = child.program.name
        logger.warning("%s ended with %s, starting it again in %g s; see %s", name, code, pause, self.log_of(name))
        child.process = None
        child.restart_at = now + pause


def _said(end: SystemExit) -> int:
    """The code that a program ends with; a text is told, as an interpreter does."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return 1


def _code(process: psutil.Process) -> int | None:
    """How a program has ended, negative by a signal; none while it runs."""
    try:
        return int(process.wait(0))
    except psutil.TimeoutExpired:
        return None


def _kill_session(process: psutil.Process) -> None:
    """Kill what is left of a program's process group, and reap the program."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def _deaf() -> Iterator[None]:
    """A fork hears no signal with the ears of its parent: it is told later, by `_hear_again`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD_TO_END)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hear_again() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD_TO_END)


def _write_to(output: int) -> None:
    """Have all that is written go there."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, stream in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, stream)
    os.close(nothing)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
