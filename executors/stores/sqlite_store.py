"""Rows of a SQLite file. Knows SQLite; which file it is, and whether a step may use it, is the caller's matter.

SQL of a step can read the opened file and nothing else: an authorizer refuses all but reading while it is compiled.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from executors.contract import ActionFailed
from executors.stores.rows import (
    PROGRESS,
    Mode,
    Row,
    as_json,
    check_mode,
    columns_of,
    quoted,
    quoted_table,
    to_line,
)
from executors.stores.watching import Watch

LOCK_SECONDS: Final = 30.0
MAX_CELL_BYTES: Final = 64 * 1024 * 1024
"""Of a text or blob, also of one that a query only makes."""
READING: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
WORST_FUNCTIONS: Final = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})


class _Sqlite:
    """One open file, which ends with the context."""

    def __init__(self, path: Path, watch: Watch, *, read_only: bool = False) -> None:
        self._path, self._watch, self._mode_of_file = path, watch, "ro" if read_only else "rw"
        self._stack = contextlib.ExitStack()
        self._connection: Any = None

    def __enter__(self) -> Self:
        self._watch.check()
        with self._failing("database_unreadable"):
            self._connection = connection = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode={self._mode_of_file}",
                uri=True,
                timeout=min(LOCK_SECONDS, self._watch.seconds_left),
                isolation_level=None,
                # The watch interrupts it from its own thread.
                check_same_thread=False,
            )
        self._stack.callback(connection.close)
        try:
            with self._failing("database_unreadable"):
                # What views and triggers of the file may call.
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)
            self._stack.enter_context(self._watch.stopping(connection.interrupt))
        except BaseException:
            # Whatever it was, nobody has the store that could close it.
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def _failing(self, code: str) -> Iterator[None]:
        self._watch.check()
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning, TypeError, ValueError, OverflowError) as error:
            # It may have been stopped from here.
            self._watch.check()
            raise ActionFailed(code, f"sqlite: {error}") from None


class SqliteSource(_Sqlite):
    """The rows of one query; `params` are bound, as `:name`."""

    def __init__(self, path: Path, query: str, params: Mapping[str, Any], watch: Watch) -> None:
        super().__init__(path, watch, read_only=True)
        self._query, self._params = query.strip().rstrip(";"), dict(params)

    def batches(self, size: int, key: str | None = None, after: Any = None) -> Iterator[list[Row]]:
        """As `rows.Source` has it."""
        text, values = self._query, {name: _cell(value) for name, value in self._params.items()}
        if key is not None:
            behind = "" if after is None else f" WHERE {quoted(key)} > :noetl_after"
            text = f"SELECT * FROM ({text}\n) AS noetl_rows{behind} ORDER BY {quoted(key)}"  # noqa: S608  (the author's query, a quoted name)
            values["noetl_after"] = after
        self._connection.set_authorizer(_only_reading)
        with self._failing("source_failed"):
            cursor = self._connection.execute(text, values)
            names = [column[0] for column in cursor.description or ()]
        if len(set(names)) < len(names):
            raise ActionFailed("source_failed", "two columns of the query have one name: give them others")
        while True:
            with self._failing("source_failed"):
                found = cursor.fetchmany(size)
            if not found:
                return
            yield [dict(zip(names, row, strict=True)) for row in found]


class SqliteSink(_Sqlite):
    """One table of the file; what is written counts with `commit`. `upsert` needs a primary or unique key there."""

    def __init__(self, path: Path, table: str, watch: Watch, *, mode: Mode = "append", key: Sequence[str] = ()) -> None:
        check_mode(mode, key)
        super().__init__(path, watch)
        self._table, self._mode, self._key = quoted_table(table), mode, list(key)

    def begin(self) -> None:
        """As `rows.Sink` has it."""
        if self._mode == "overwrite":
            self._run(f"DELETE FROM {self._table}")  # noqa: S608  (quoted)

    def write(self, rows: Sequence[Row]) -> None:
        """As `rows.Sink` has it."""
        if not rows:
            return
        finds = self._mode in ("update", "upsert")
        columns = columns_of(rows, self._key if finds else ())
        values = [[_cell(row.get(name)) for name in columns] for row in rows]
        if self._mode == "update":
            order = [*(name for name in columns if name not in self._key), *self._key]
            places = [columns.index(name) for name in order]
            self._run_many(self._update(order), [[row[place] for place in places] for row in values])
        else:
            self._run_many(self._insert(columns), values)

    def commit(self) -> None:
        """As `rows.Sink` has it."""
        with self._failing("target_failed"):
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def read_note(self, name: str) -> str | None:
        """As `rows.NotingSink` has it."""
        self._run(f"CREATE TABLE IF NOT EXISTS {PROGRESS} (name TEXT PRIMARY KEY, note TEXT)")
        found = self._run(f"SELECT note FROM {PROGRESS} WHERE name = ?", [name]).fetchone()  # noqa: S608  (a constant)
        self.commit()
        return None if found is None else str(found[0])

    def swap_note(self, name: str, before: str | None, after: str) -> bool:
        """As `rows.NotingSink` has it."""
        if before is None:
            text, values = f"INSERT INTO {PROGRESS} VALUES (?, ?) ON CONFLICT DO NOTHING", [name, after]  # noqa: S608  (a constant)
        else:
            text, values = f"UPDATE {PROGRESS} SET note = ? WHERE name = ? AND note = ?", [after, name, before]  # noqa: S608  (a constant)
        return bool(self._run(text, values).rowcount)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> Any:
        with self._failing("target_failed"):
            self._begin_transaction()
            return self._connection.execute(statement, values)

    def _run_many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        with self._failing("target_failed"):
            self._begin_transaction()
            self._connection.executemany(statement, values)

    def _begin_transaction(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _insert(self, columns: list[str]) -> str:
        names, marks = ", ".join(map(quoted, columns)), ", ".join("?" * len(columns))
        text = f"INSERT INTO {self._table} ({names}) VALUES ({marks})"  # noqa: S608  (quoted)
        if self._mode == "upsert":
            sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name not in self._key)
            text += f" ON CONFLICT ({', '.join(map(quoted, self._key))}) DO "
            text += f"UPDATE SET {sets}" if sets else "NOTHING"
        return text

    def _update(self, order: list[str]) -> str:
        sets = ", ".join(f"{quoted(name)} = ?" for name in order[: -len(self._key)])
        if not sets:
            raise ActionFailed("arguments_invalid", "the mode update needs a column beside the key")
        found = " AND ".join(f"{quoted(name)} = ?" for name in self._key)
        return f"UPDATE {self._table} SET {sets} WHERE {found}"  # noqa: S608  (quoted)


def _only_reading(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action not in READING or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in WORST_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _cell(value: Any) -> Any:
    """A value in one of SQLite's types."""
    if isinstance(value, dict | list):
        return to_line(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    value = as_json(value)
    return int(value) if isinstance(value, bool) else value
