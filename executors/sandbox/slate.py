"""What a child that is kept puts back between two jobs of an execution, and when it is no longer fit for another.

Not a wall: a job can change the interpreter in ways that nothing here sees (its own modules, `builtins`), and the
next job of the same execution then finds them changed. What is cheap to put back is put back.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # below `signal`, whose functions make enums of numbers
import contextlib
import gc
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from typing import IO

from executors.sandbox.frames import ChildSpec

MEMORY_SHARE = 4
"""A child whose memory grew by more than this part of its bound (a quarter) serves no further job."""
THREAD_TRIES = 20
THREAD_PAUSE_SECONDS = 0.0002
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class Slate:
    """This process as the first job finds it."""

    def __init__(self, spec: ChildSpec) -> None:
        self._workdir = spec.workdir
        # At the top, out of the way of the numbers that jobs get.
        self._nothing, self._printed = os.dup(0), os.dup(1)
        # Opened before any job ran: a job may move its folder away and leave a link to another under the name.
        self._folder = os.open(spec.workdir, os.O_RDONLY | os.O_DIRECTORY)
        self._open_streams()
        self._handlers = {number: _signal.getsignal(number) for number in range(1, signal.NSIG)}
        self._filters = list(warnings.filters)
        self._path = list(sys.path)
        self._recursion = sys.getrecursionlimit()
        self._memory_most = _threads_and_memory()[1] + spec.memory_bytes // MEMORY_SHARE
        self._memory_is_bound = bool(spec.memory_bytes)
        self._descriptors_most = _lowest_free_descriptor() + spec.open_files // 2

    def end_printed(self, mark: bytes) -> None:
        """Let the worker see where what this job has printed ends."""
        # A job may have closed the descriptor: then this process is not fit for another.
        with contextlib.suppress(OSError):
            os.write(self._printed, mark)

    def wipe(self) -> bool:
        """Put back what a job may have changed. Returns: whether this process is fit for another job."""
        try:
            # First, so that no alarm of the job goes off in here.
            self._reset_signals()
            self._reset_streams()
            self._reset_interpreter()
            self._empty_folder()
            os.chdir(self._workdir)
            os.umask(0o077)
            return self._is_fit()
        except BaseException:
            # What a job left behind may raise anything: then this process has served its last one.
            return False

    def _open_streams(self) -> None:
        self._input: IO[str] = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (they live as long as the process)
        self._output: IO[str] = open(  # noqa: SIM115  (they live as long as the process)
            1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        )
        sys.stdin = sys.__stdin__ = self._input  # type: ignore[misc]  # typed as final, and set here all the same
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = self._output  # type: ignore[misc]  # the same

    def _reset_signals(self) -> None:
        for timer in TIMERS:
            signal.setitimer(timer, 0)
        for number, handler in self._handlers.items():
            if _signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _reset_streams(self) -> None:
        os.dup2(self._nothing, 0)
        os.dup2(self._printed, 1)
        os.dup2(self._printed, 2)
        if self._input.closed or self._output.closed:
            self._open_streams()
        sys.stdin = self._input
        sys.stdout = sys.stderr = self._output

    def _empty_folder(self) -> None:
        """Remove what jobs left in it. Raises: `OSError` when something stays."""
        os.fchmod(self._folder, 0o700)
        for name in os.listdir(self._folder):
            try:
                os.unlink(name, dir_fd=self._folder)
            except (IsADirectoryError, PermissionError):
                shutil.rmtree(name, dir_fd=self._folder)

    def _reset_interpreter(self) -> None:
        if os.environ:
            os.environ.clear()
        warnings.filters[:] = self._filters  # type: ignore[index]  # typed as a sequence, is a list
        warnings._filters_mutated()  # type: ignore[attr-defined]  # what the module's own functions call after a change
        sys.path[:] = self._path
        sys.setrecursionlimit(self._recursion)
        sys.settrace(None)
        sys.setprofile(None)
        gc.enable()
        # Functions and their namespace hold one another: let what this job held go now, its open files among it.
        gc.collect(1)
        tempfile.tempdir = self._workdir
        logging.root.handlers.clear()
        logging.root.setLevel(logging.WARNING)
        logging.disable(logging.NOTSET)
        # A seed that one job sets must not be the next one's.
        random.seed(int.from_bytes(os.urandom(16), "little"))

    def _is_fit(self) -> bool:
        if not _has_no_children():
            return False
        threads, memory = _threads_and_memory()
        # A thread that was joined still takes a moment to go.
        for _ in range(THREAD_TRIES):
            if threads == 1:
                break
            time.sleep(THREAD_PAUSE_SECONDS)
            threads, memory = _threads_and_memory()
        is_small = not self._memory_is_bound or memory <= self._memory_most
        return threads == 1 and is_small and _lowest_free_descriptor() <= self._descriptors_most


def _has_no_children() -> bool:
    """Whether no process that jobs started is left. Orphans count: they come to this process, their reaper."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return False
    return True


def _threads_and_memory() -> tuple[int, int]:
    """How many threads this process has, whoever started them, and the bytes of its address space."""
    descriptor = os.open("/proc/self/stat", os.O_RDONLY)
    try:
        # The name in parentheses may hold anything; the fields after it are numbers (proc(5): 20 and 23).
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    finally:
        os.close(descriptor)
    return int(fields[17]), int(fields[20])


def _lowest_free_descriptor() -> int:
    """Descriptors are numbered from below, so this grows with those that jobs left open."""
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor
