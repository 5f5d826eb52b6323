"""Reads over all tables at once: whether what they say together can be true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connection, transaction

from executions.api import find_executions_without_work, find_fold_difference

_QUERIES: Final[Any] = aiosql.from_path(Path(__file__).parent / "sql" / "verify.sql", "psycopg")
_NO_INVARIANT: Final = "executions_to_fold"
_HAS_WORK: Final = "live_execution_has_work"
_FOLD: Final = "fold_of_log_is_state"
_OWNS_NOTHING: Final = "has not ended and owns no job, no lease, no timer, no child, no wait and no pending evaluation"
FOLDED_AT_ONCE: Final = 1000
"""How many ids of executions are read at once; each is folded in a transaction of its own."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One invariant that does not hold for one execution."""

    invariant: str
    execution_id: str
    message: str


def invariants() -> list[str]:
    """The names of the invariants, in the order they are checked."""
    return [_HAS_WORK, *_statements(), _FOLD]


def _statements() -> list[str]:
    return [name for name in _QUERIES.available_queries if not name.endswith("_cursor") and name != _NO_INVARIANT]


def find_violations() -> list[Violation]:
    """Check every invariant: those of the tables at one moment of the database, each fold at one of its own.

    Folding everything takes minutes, and for so long no snapshot may be held: what is dead since could not be removed.
    """
    with _one_moment():
        found = [Violation(_HAS_WORK, str(id_), _OWNS_NOTHING) for id_ in find_executions_without_work(0)]
        found += [
            Violation(name, str(execution_id), message)
            for name in _statements()
            for execution_id, message in getattr(_QUERIES, name)(connection.connection)
        ]
    return found + [
        Violation(_FOLD, str(execution_id), difference)
        for execution_id in _executions_to_fold()
        if (difference := _fold_difference(execution_id))
    ]


@contextmanager
def _one_moment() -> Iterator[None]:
    """A transaction that reads one moment of the database, and takes its time."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")
        yield


def _executions_to_fold() -> Iterator[int]:
    connection.ensure_connection()
    after = 0
    while rows := list(_QUERIES.executions_to_fold(connection.connection, after=after, count=FOLDED_AT_ONCE)):
        yield from (row[0] for row in rows)
        after = rows[-1][0]


def _fold_difference(execution_id: int) -> str:
    # The state and the log of one execution are those of one moment.
    with _one_moment():
        return find_fold_difference(execution_id)
