"""Reads over all tables at once: whether what they say together can be true."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connection, transaction

from executions.api import find_fold_difference

_QUERIES: Final[Any] = aiosql.from_path(Path(__file__).parent / "sql" / "verify.sql", "psycopg")
_NO_INVARIANT: Final = "executions_to_fold"


@dataclass(frozen=True, slots=True)
class Violation:
    """One invariant that does not hold for one execution."""

    invariant: str
    execution_id: str
    message: str


def invariants() -> list[str]:
    """The names of the invariants, in the order they are checked."""
    named = [name for name in _QUERIES.available_queries if not name.endswith("_cursor") and name != _NO_INVARIANT]
    return [*named, "fold_of_log_is_state"]


def find_violations() -> list[Violation]:
    """Check every invariant at one moment of the database."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        found = [
            Violation(name, str(execution_id), message)
            for name in invariants()[:-1]
            for execution_id, message in getattr(_QUERIES, name)(connection.connection)
        ]
        for (execution_id,) in list(_QUERIES.executions_to_fold(connection.connection)):
            if difference := find_fold_difference(execution_id):
                found.append(Violation("fold_of_log_is_state", str(execution_id), difference))
    return found
