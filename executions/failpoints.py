"""Failpoints: named places where a test makes this process die, wait or fail (rule R15). Switched off, they do nothing.

Switched on by the environment variable `NOETL_FAILPOINTS`, which names a folder. A file in it with the name of a point
is one hit: the first process that comes to the point claims it and does what its content says.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final, Literal, get_args

from django.db import OperationalError

PAUSE_SECONDS: Final = 60.0
"""How long a paused process waits at most to be let go."""
POLL_SECONDS: Final = 0.01

Point = Literal[
    "start.committed",
    "lease.before",
    "lease.after",
    "action.before",
    "action.after",
    "report.before",
    "report.inside",
    "report.committed",
    "evaluate.inside",
    "cancel.inside",
    "child.inside",
    "publish.before",
    "reap.between",
]
POINTS: Final[tuple[Point, ...]] = get_args(Point)

_given = os.environ.get("NOETL_FAILPOINTS")
folder: Path | None = Path(_given) if _given else None
"""Where points are armed; None switches all of them off."""


def failpoint(point: Point) -> None:
    """Do what is asked for at this point, if anything is.

    `kill`: this process gets a SIGKILL. `pause`: it waits for the file `POINT.go`. `error`: it raises
    `OperationalError`, as if the database had gone. Whoever is hit leaves `POINT.reached.PID`.
    """
    if folder is None:
        return
    reached = folder / f"{point}.reached.{os.getpid()}"
    try:
        # One of several processes succeeds, and once.
        (folder / point).rename(reached)
    except FileNotFoundError:
        return
    match reached.read_text().strip():
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "pause":
            _wait_for(folder / f"{point}.go")
        case "error":
            raise OperationalError(f"failpoint {point}")
        case unknown:
            raise ValueError(f"{reached} asks for {unknown!r}: neither kill nor pause nor error")


def _wait_for(file: Path) -> None:
    give_up_at = time.monotonic() + PAUSE_SECONDS
    while not file.exists() and time.monotonic() < give_up_at:
        time.sleep(POLL_SECONDS)
