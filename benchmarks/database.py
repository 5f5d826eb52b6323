"""What the benchmark reads from Postgres: when executions began and ended, and the server's own statistics.

Looks through a connection of its own, rarely enough not to disturb, and counts its own statements.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.platform import Platform
from noetl_site import embedded

FIRST_LOOK_SECONDS: Final = 0.005
LAST_LOOK_SECONDS: Final = 0.1
STATISTICS_SECONDS: Final = 30
EXECUTION_SECONDS: Final = 1200


class NotFinished(Exception):
    """An execution did not come to the end that was expected."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One execution that has ended; times are seconds since 1970 by the machine's one clock."""

    id: int
    created_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        """From its row to its end."""
        return self.ended_at - self.created_at


class Database:
    """The superuser's connection to one database of a platform."""

    def __init__(self, platform: Platform, name: str = "noetl") -> None:
        self.connection = embedded.connect(platform.services.folder, name)
        self.connection.execute("SET search_path = noetl")
        self.statements = 0
        """How many were run here: each is a transaction that is not the platform's."""

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def rows(self, statement: Any, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement that gives rows."""
        self.statements += 1
        return self.connection.execute(statement, parameters).fetchall()

    def one(self, statement: Any, *parameters: Any) -> Any:
        """The one value that a statement gives."""
        return self.rows(statement, *parameters)[0][0]

    def run(self, statement: Any, *parameters: Any) -> None:
        """Run one statement that gives nothing."""
        self.statements += 1
        self.connection.execute(statement, parameters)

    def wait(self, executions: Sequence[int]) -> list[Ended]:
        """Wait until all of these have completed. Raises: `NotFinished`."""
        begun = time.monotonic()
        while not self._are_over(executions):
            waited = time.monotonic() - begun
            if waited > EXECUTION_SECONDS:
                raise NotFinished(f"{len(executions)} executions: not over after {waited:.0f} s")
            # The end is read from the row, so looking late costs nothing, and looking often would cost the engine.
            time.sleep(min(max(FIRST_LOOK_SECONDS, waited / 20), LAST_LOOK_SECONDS))
        found = self.rows(
            "SELECT id, extract(epoch FROM created_at)::float, extract(epoch FROM ended_at)::float, status, error"
            " FROM execution WHERE id = ANY(%s)",
            list(executions),
        )
        failed = [row for row in found if row[3] != "completed"]
        if failed:
            raise NotFinished(f"execution {failed[0][0]} {failed[0][3]}: {failed[0][4]}")
        return [Ended(*row[:3]) for row in found]

    def _are_over(self, executions: Sequence[int]) -> bool:
        # By id: the index of open executions is no use to somebody who looks this often.
        waiting = "SELECT count(*) FROM execution WHERE id = ANY(%s) AND ended_at IS NULL"
        return bool(self.one(waiting, list(executions)) == 0)
