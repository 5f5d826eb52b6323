"""Telling our server processes from foreign ones, and waiting for them.

A pid in a file proves nothing: after a crash it may be another program's. A server is ours when it runs our program
at our place.
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


def is_server(pid: int | None, program: Path, place: str) -> bool:
    """Whether this process runs the program at the place, which ends its command line."""
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        # Not its executable: in a container root may not look at that of another user's process.
        words = " ".join(process.cmdline()).rstrip()
        return process.status() != psutil.STATUS_ZOMBIE and program.name in words and words.endswith(place)
    except psutil.Error:
        return False


def find_in_folder(program: Path, folder: Path) -> Iterator[int]:
    """The pids of all processes that run the program in the folder, as far as they may be looked at."""
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and os.path.realpath(process.exe()) == os.path.realpath(program):
                yield process.pid
        except (psutil.Error, OSError):
            continue


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds. Returns: whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
