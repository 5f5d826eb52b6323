"""SQL results as JSON: column names, cells and bounds, the same for every SQL kind.

Knows no database. A `RowBudget` is shared by all statements of one step.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from executors.sandbox.sanitise import MAX_OUTPUT_BYTES, OutputTooLarge

MAX_ROWS = 10_000


class RowBudget:
    """How many rows and, roughly, bytes the statements of a step may still return."""

    def __init__(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._max_rows, self._rows = max_rows, 0
        self._max_bytes, self._bytes = max_bytes, 0

    def copy(self) -> RowBudget:
        """Another one with as much left."""
        copied = RowBudget(self._max_rows, self._max_bytes)
        copied._rows, copied._bytes = self._rows, self._bytes
        return copied

    def spend(self, row: Mapping[str, Any]) -> None:
        """Count one row. Raises: `OutputTooLarge`, whose text says what to do."""
        self._rows += 1
        self._bytes += sum(len(name) + 4 + _size(cell) for name, cell in row.items())
        if self._rows > self._max_rows:
            raise OutputTooLarge(
                f"more than {self._max_rows} rows; add a LIMIT, aggregate, or write them to a table or file"
            )
        if self._bytes > self._max_bytes:
            raise OutputTooLarge(
                f"rows of more than {self._max_bytes} bytes; select fewer columns or rows,"
                " or write them to a table or file"
            )


def unique_names(names: Iterable[str]) -> list[str]:
    """Column names made distinct: `a, a` becomes `a, a_2`, so that no cell is lost in a map."""
    found: dict[str, None] = {}
    last: dict[str, int] = {}
    for name in names:
        candidate, number = name, last.get(name, 1)
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        last[name] = number
        found[candidate] = None
    return list(found)


def to_rows(columns: list[str], tuples: Iterable[Sequence[Any]], budget: RowBudget) -> list[dict[str, Any]]:
    """Maps of JSON-like cells. Raises: `OutputTooLarge`."""
    rows = []
    for values in tuples:
        row = {name: jsonable(value) for name, value in zip(columns, values, strict=True)}
        budget.spend(row)
        rows.append(row)
    return rows


def with_rows(columns: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The result of a statement that returned rows."""
    return {"status": "success", "rows": rows, "row_count": len(rows), "columns": columns}


def without_rows(row_count: int, message: str) -> dict[str, Any]:
    """The result of a statement that returned none."""
    return {"status": "success", "row_count": row_count, "message": message}


def jsonable(value: Any) -> Any:
    """One cell as JSON: decimals as floats, times in ISO form, bytes in base64, what is unknown as text."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(jsonable(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return str(value)


def _size(cell: Any) -> int:
    if isinstance(cell, str):
        return len(cell)
    if isinstance(cell, Mapping):
        return 2 + sum(len(key) + 2 + _size(item) for key, item in cell.items())
    if isinstance(cell, list):
        return 2 + sum(1 + _size(item) for item in cell)
    return 8
