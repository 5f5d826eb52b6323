"""Keeps a few programs running: starts them, restarts those that die, stops them.

Knows processes, signals and log files; nothing of what the programs do. Each program is the leader of its own session,
so a Ctrl-C in the terminal reaches only the supervisor, and gets a SIGTERM when the supervisor itself is killed.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Final

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.1
STEADY_SECONDS: Final = 30.0
"""A program that ran this long had no trouble starting."""
FIRST_PAUSE_SECONDS: Final = 0.5
LAST_PAUSE_SECONDS: Final = 30.0
MAX_LOG_BYTES: Final = 10 * 1024 * 1024
PR_SET_PDEATHSIG: Final = 1

# Loaded here: between fork and exec only the call itself may happen.
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be kept running. `stop_seconds` are between SIGTERM and SIGKILL."""

    name: str
    command: Sequence[str]
    stop_seconds: float
    pass_fds: tuple[int, ...] = ()


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float = field(default=float("-inf"))


class Supervisor:
    """The programs of one platform. All methods are for the thread that made it: a child dies with its thread."""

    def __init__(self, programs: Sequence[Program], env: Mapping[str, str], folder: Path, logs: Path) -> None:
        """`programs` are started in this order."""
        self._children = [_Child(program) for program in programs]
        self._env = dict(env)
        self._folder = folder
        self._logs = logs

    def start(self) -> None:
        """Start every program."""
        self._logs.mkdir(mode=0o700, exist_ok=True)
        for child in self._children:
            self._start(child)

    def pid_of(self, name: str) -> int | None:
        """The pid of a program that runs."""
        for child in self._children:
            if child.program.name == name and child.process is not None and child.process.poll() is None:
                return child.process.pid
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
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for program, process in running:
            try:
                process.wait(max(0.0, stopped_at + program.stop_seconds - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("%s did not stop in time and is killed", program.name)
            _kill_session(process)

    def _start(self, child: _Child) -> None:
        log = self.log_of(child.program.name)
        _rotate(log)
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        with log.open("ab") as output:
            child.process = subprocess.Popen(
                child.program.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._env,
                pass_fds=child.program.pass_fds,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # one system call, loaded before the fork
            )
        child.started_at = time.monotonic()

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.restart_at:
                self._start(child)
            return
        if (code := child.process.poll()) is None:
            return
        _kill_session(child.process)
        child.failures = 0 if now - child.started_at >= STEADY_SECONDS else child.failures + 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(child.failures, 10), LAST_PAUSE_SECONDS)
        name = child.program.name
        logger.warning("%s ended with %s, starting it again in %g s; see %s", name, code, pause, self.log_of(name))
        child.process = None
        child.restart_at = now + pause


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program's process group, and reap the program."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
