"""Telling our server processes from foreign ones, and waiting for them.

A pid in a file proves nothing: after a crash it may be another program's. A server is ours when it runs our program
in our folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

POLL_SECONDS: Final = 0.02


def read_pid(file: Path) -> int | None:
    """The pid in the first line of a pid file."""
    try:
        return int(file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def is_server(pid: int | None, program: Path, folder: Path) -> bool:
    """Whether this process runs the program in the folder."""
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and _runs(process, program, folder)
    except psutil.Error:
        return False


def servers(program: Path, folder: Path) -> Iterator[int]:
    """The pids of all processes that run the program in the folder."""
    return (pid for pid in psutil.pids() if is_server(pid, program, folder))


def _runs(process: psutil.Process, program: Path, folder: Path) -> bool:
    # The program may have been replaced under a running server: Linux then says so behind its name.
    executable = process.exe().removesuffix(" (deleted)")
    return os.path.realpath(executable) == os.path.realpath(program) and process.cwd() == str(folder)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds. Returns: whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
