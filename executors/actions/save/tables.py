"""What the storages of tables have in common: rows that fit together, their keys, and the values of a statement.

Knows no database. All of it is checked before one is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from executors.actions.save.arguments import SaveArguments
from executors.contract import ActionFailed
from executors.stores.postgres_statements import (
    StatementUnreadable,
    bind,
    copy_direction,
    ends_transaction,
    split_statements,
)
from executors.stores.rows import Row, check_mode

TAKES: Final = frozenset(("spec", "table", "mode", "key", "data", "statement", "params", "chunk_size"))
NEEDS: Final = ("table", "statement")
FINDING: Final = ("update", "upsert")
"""The modes that find rows by a key."""
MAX_ROWS: Final = 10_000
"""How many rows one statement writes where `chunk_size` says nothing."""


def keys_of(spec: SaveArguments) -> list[str]:
    """The columns by which the mode finds rows; of other modes none. Raises: `ActionFailed` (`arguments_invalid`)."""
    if spec.mode not in FINDING:
        return []
    key = [spec.key] if isinstance(spec.key, str) else spec.key or []
    check_mode(spec.mode, [name for name in key if name])
    return key


def batches(rows: Sequence[Any], spec: SaveArguments) -> list[list[Row]]:
    """The rows, so many at a time as one statement writes: they have the same columns, and `chunk_size` bounds them.

    What a row does not name is left alone, so that it gets its default, or stays as it is. With a key there is one row
    for each: what several say of it, as if they were written one after another.
    Raises: `ActionFailed` (`arguments_invalid`, `key_invalid`).
    """
    read = [_row(row, number) for number, row in enumerate(rows)]
    if spec.mode in FINDING:
        read = _merged(read, keys_of(spec))
    alike: dict[frozenset[str], list[Row]] = {}
    for row in read:
        alike.setdefault(frozenset(row), []).append(row)
    size = spec.chunk_size or MAX_ROWS
    return [some[first : first + size] for some in alike.values() for first in range(0, len(some), size)]


def bound_statement(spec: SaveArguments) -> tuple[str, list[list[Any]]]:
    """The statement with `$1`, `$2`, ... in it, and the values of each time that it is run.

    Raises: `ActionFailed` (`arguments_invalid`).
    """
    given: list[Row] = [one if isinstance(one, dict) else {} for one in spec.parameters()]
    try:
        statements = split_statements(spec.statement or "")
        if len(statements) != 1:
            raise StatementUnreadable(f"it is one statement, and not {len(statements)}")
        [statement] = statements
        if ends_transaction(statement) or copy_direction(statement):
            raise StatementUnreadable("it is part of a transaction, which it does not end, and no COPY of the client's")
        if not given:
            # Without values it is not known which names it has, and it is not run.
            return statement, []
        bound = bind(statement, set[str]().union(*given))
    except StatementUnreadable as error:
        raise ActionFailed("arguments_invalid", f"statement: {error}") from None
    for number, one in enumerate(given):
        if missing := [name for name in bound.names if name not in one]:
            raise ActionFailed("arguments_invalid", f"params: the entry at index {number} has no {missing[0]!r}")
    return bound.text, [[one[name] for name in bound.names] for one in given]


def told(storage: str, spec: SaveArguments, count: int) -> dict[str, Any]:
    """What a save came to: `{saved, table, task_result}`, without `table` of a statement."""
    table = {} if spec.statement is not None else {"table": spec.table}
    return {"saved": storage, **table, "task_result": {"status": "success", "row_count": count}}


def _row(row: Any, number: int) -> Row:
    if not isinstance(row, dict) or not row:
        raise ActionFailed("arguments_invalid", f"data: the row at index {number} is no map of columns and values")
    return row


def _merged(rows: Sequence[Row], key: Sequence[str]) -> list[Row]:
    merged: dict[tuple[Any, ...], Row] = {}
    for number, row in enumerate(rows):
        values = tuple(row.get(name) for name in key)
        for name, value in zip(key, values, strict=True):
            if value is None:
                raise ActionFailed("key_invalid", f"data: the row at index {number} has no {name!r}, which is its key")
            if isinstance(value, dict | list):
                raise ActionFailed("key_invalid", f"data: {name!r} of the row at index {number} is a list or a map")
        merged[values] = {**merged.get(values, {}), **row}
    return list(merged.values())
