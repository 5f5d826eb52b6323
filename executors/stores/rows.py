"""What a source and a sink of rows are, and what is the same for every store: names, columns, keys, plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeAlias
from uuid import UUID

from executors.contract import ActionFailed

Row: TypeAlias = dict[str, Any]
Mode: TypeAlias = Literal["append", "overwrite", "update", "upsert"]

NAME: Final = re.compile(r"[^\W\d][\w$ -]{0,62}")
PROGRESS: Final = "noetl_progress"
"""The table in a target's own database in which its notes stand."""


class Source(Protocol):
    """Gives rows, never more than one batch of them in memory. Used as a context."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""

    def batches(self, size: int, key: str | None = None, after: Any = None) -> Iterator[list[Row]]:
        """All rows, at most `size` at a time; with `key` in its order, and only those behind `after`.

        What is no database keeps the order that it has, and may give rows up to `after`, too.
        Raises: `ActionFailed`.
        """


class Sink(Protocol):
    """Takes rows. Used as a context: what is not committed when it ends was never written."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give back what is not committed, and close it."""

    def begin(self) -> None:
        """Before the first rows: with the mode `overwrite` it empties the place. Left out when going on."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch in the sink's mode. Raises: `ActionFailed`."""

    def commit(self) -> None:
        """Make what was written since the last commit count, all of it or nothing."""


class NotingSink(Sink, Protocol):
    """A sink that can note something by name in the transaction of the rows."""

    def read_note(self, name: str) -> str | None:
        """The note of this name; None when there is none."""

    def swap_note(self, name: str, before: str | None, after: str) -> bool:
        """Put a note in the place of what was read. Returns: False when another has been there since."""


def table_parts(table: str) -> list[str]:
    """`table` or `schema.table` as its parts, to be quoted. Raises: `ActionFailed` (`arguments_invalid`)."""
    parts = table.split(".")
    if len(parts) > 2 or not all(map(NAME.fullmatch, parts)):
        raise ActionFailed("arguments_invalid", f"{table!r} is no table's name: write `table` or `schema.table`")
    return parts


def quoted(name: str) -> str:
    """A name of a table or column as SQL has it. Raises: `ActionFailed` (`arguments_invalid`)."""
    if not name or "\x00" in name:
        raise ActionFailed("arguments_invalid", f"{name!r} is no column's name")
    return '"' + name.replace('"', '""') + '"'


def quoted_table(table: str) -> str:
    """`"schema"."table"`. Raises: as `table_parts`."""
    return ".".join(map(quoted, table_parts(table)))


def columns_of(rows: Sequence[Row], key: Sequence[str] = ()) -> list[str]:
    """Every column that a row has, in their first order. Raises: `ActionFailed` when one of `key` is not there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for name in key:
        if name not in columns:
            raise ActionFailed("key_invalid", f"the rows have no column {name!r}, which is part of the key")
    return columns


def last_of_each(rows: Sequence[Row], key: Sequence[str]) -> list[Row]:
    """Of several rows with one key the last, as if they were written one after another."""
    try:
        return list({tuple(row.get(name) for name in key): row for row in rows}.values())
    except TypeError:
        raise ActionFailed("key_invalid", "a key is one value, and no list or map") from None


def check_mode(mode: Mode, key: Sequence[str]) -> None:
    """Raises: `ActionFailed` (`arguments_invalid`) when a mode that finds rows has nothing to find them by."""
    if mode in ("update", "upsert") and not key:
        raise ActionFailed("arguments_invalid", f"the mode {mode} needs `key`: the columns that tell one row")


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: numbers stay numbers if nothing is lost, bytes are hexadecimal."""
    match value:
        case Decimal():
            if value.is_finite() and value == int(value):
                return int(value)
            number = float(value)
            return number if Decimal(repr(number)) == value else str(value)
        case float():
            return value if value == value and abs(value) != float("inf") else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case list() | tuple():
            return [as_json(item) for item in value]
        case dict():
            return {str(name): as_json(item) for name, item in value.items()}
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)


def to_line(value: Any) -> str:
    """A value as JSON in one line."""
    return json.dumps(as_json(value), ensure_ascii=False, separators=(",", ":"))


_FROM_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    "int": int,
    "str": str,
    "float": float,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "UUID": UUID,
}


def key_to_note(value: Any) -> list[str]:
    """A key's value and its type, as a note keeps it. Raises: `ActionFailed` (`key_invalid`)."""
    kind = type(value).__name__
    if kind not in _FROM_TEXT:
        raise ActionFailed("key_invalid", f"a key is a number, a text, a date or a UUID, and no {kind}")
    return [kind, value.isoformat() if isinstance(value, date) else str(value)]


def key_from_note(note: Sequence[str]) -> Any:
    """The value that `key_to_note` wrote."""
    return _FROM_TEXT[note[0]](note[1])
