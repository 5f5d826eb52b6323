"""Taking old executions away: whole months of the event log, with all that belongs to them.

Knows the tables and the data folder; when and how much is the operator's word.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connections, transaction
from psycopg import sql
from psycopg.errors import LockNotAvailable

_QUERIES: Final[Any] = aiosql.from_path(Path(__file__).parent / "sql" / "retention.sql", "psycopg")
OWNER: Final = "admin"
"""The connection of the tables' owner: nobody else may take events away."""
AT_ONCE: Final = 500
"""Executions in one transaction."""
LOCK_TIMEOUT: Final = "3s"
"""How long dropping a partition may wait, as everything that reads or writes events waits behind it."""


class EventsInUse(Exception):
    """Somebody reads or writes events for so long that a month of them cannot be dropped."""


@dataclass(frozen=True, slots=True)
class Month:
    """One month of executions. `open` of them have not ended, or have a child or a rerun that has not."""

    partition: str
    first_id: int
    end_id: int
    executions: int
    open: int

    @property
    def name(self) -> str:
        """As `2026-01`."""
        return self.partition.removeprefix("event_log_").replace("_", "-")


def find_old_months(keep_days: int) -> list[Month]:
    """The months that were over so many days ago, the oldest first."""
    with transaction.atomic(OWNER):
        connection = _connection()
        found = list(_QUERIES.months(connection, keep_days=keep_days))
        return [
            Month(name, first, end, *_QUERIES.count_executions(connection, first_id=first, end_id=end))
            for name, first, end in found
        ]


def remove_month(month: Month, data_dir: Path, tell: Callable[[int], None]) -> bool:
    """Take a month away in which nothing is open. It may be stopped and begun again at any time.

    First the logs, of some executions at a time; then the executions, their jobs and their events at once, as none may
    be seen without the others. `tell` takes how many have been through the first. Returns: whether it went; not when
    a rerun has begun meanwhile. Raises: `EventsInUse` when they are for longer than `LOCK_TIMEOUT`, `OSError` when a
    file cannot be removed.
    """
    if _has_reruns(month):
        return False
    done, after = 0, month.first_id
    while chosen := _remove_belongings(after, month.end_id):
        for execution_id in chosen:
            _remove_files(data_dir, execution_id)
        done, after = done + len(chosen), chosen[-1] + 1
        tell(done)
    try:
        return _remove_executions(month)
    except LockNotAvailable as error:
        raise EventsInUse(str(error).strip()) from None


def _remove_executions(month: Month) -> bool:
    with transaction.atomic(OWNER):
        connection = _connection()
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        _QUERIES.delete_executions(connection, first_id=month.first_id, end_id=month.end_id)
        connection.execute(sql.SQL("DROP TABLE {table}").format(table=sql.Identifier(month.partition)))
        # From here on no execution begins until this is over: those that began before are seen now.
        if _has_reruns(month):
            transaction.set_rollback(True, using=OWNER)
            return False
        return True


def _has_reruns(month: Month) -> bool:
    with transaction.atomic(OWNER):
        return bool(_QUERIES.has_reruns(_connection(), first_id=month.first_id, end_id=month.end_id))


def _remove_belongings(first_id: int, end_id: int) -> list[int]:
    with transaction.atomic(OWNER):
        found = _QUERIES.choose_executions(_connection(), first_id=first_id, end_id=end_id, most=AT_ONCE)
        chosen = [id_ for (id_,) in found]
        if chosen:
            _QUERIES.delete_belongings(_connection(), ids=chosen)
        return chosen


def _remove_files(data_dir: Path, execution_id: int) -> None:
    """What its steps left in this machine's data folder. Raises: `OSError`; nothing is forgotten then."""
    if (folder := data_dir / "files" / str(execution_id)).exists():
        shutil.rmtree(folder)
    for file in (data_dir / "duckdb").glob(f"{execution_id}.duckdb*"):
        file.unlink(missing_ok=True)


def _connection() -> Any:
    wrapper = connections[OWNER]
    wrapper.ensure_connection()
    return wrapper.connection
