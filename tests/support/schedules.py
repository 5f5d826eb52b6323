"""Forcing one schedule: arming failpoints, and threads whose waiting for a lock the database itself tells."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from django.db import connection

from executions.failpoints import Point
from tests.support.inspection import wait_for

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failpoints:
    """The folder of failpoints of some processes, or of this one."""

    folder: Path

    def arm(self, point: Point, demand: Literal["kill", "pause", "error"]) -> None:
        """Let the next process that comes to the point do this, once."""
        for left in self.folder.glob(f"{point}*"):
            left.unlink()
        # Under another name until the demand is in it: a process claims it at any moment.
        new = self.folder / f".{point}"
        new.write_text(demand)
        new.rename(self.folder / point)

    def wait_until_reached(self, point: Point, seconds: float = 30) -> int:
        """The process that came to the point, once one has."""
        [reached, *_] = wait_for(lambda: list(self.folder.glob(f"{point}.reached.*")), seconds)
        return int(reached.suffix[1:])

    def release(self, point: Point) -> None:
        """Let a paused process go on."""
        (self.folder / f"{point}.go").touch()

    def release_all(self) -> None:
        """Disarm what nobody has come to, and let go whoever is paused."""
        for file in self.folder.iterdir():
            name, reached, _ = file.name.partition(".reached.")
            if reached:
                (self.folder / f"{name}.go").touch()
            elif not name.endswith(".go"):
                file.unlink(missing_ok=True)


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Begin the work in a thread with a database connection of its own."""

    def with_own_connection() -> T:
        try:
            return work()
        finally:
            connection.close()

    executor = ThreadPoolExecutor(1)
    future = executor.submit(with_own_connection)
    executor.shutdown(wait=False)
    return future


def wait_until_waiting(*others: Future[T], sessions: int = 1) -> None:
    """Wait until so many sessions of this database wait for a lock, or the others have ended without waiting."""

    def are_waiting() -> bool:
        with connection.cursor() as cursor:
            # A transaction would see the sessions as they were when it looked first.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            row = cursor.fetchone()
        return row is not None and row[0] >= sessions

    wait_for(lambda: are_waiting() or (bool(others) and all(other.done() for other in others)))
