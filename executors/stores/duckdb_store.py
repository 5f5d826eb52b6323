"""Rows of a DuckDB file, and of Parquet files, which DuckDB reads and writes.

Knows DuckDB; which file it is, and whether a step may use it, is the caller's matter. SQL reaches the opened file and
nothing else: no other file, no network, no extension.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Final, Self
from uuid import UUID

from executors.contract import ActionFailed
from executors.stores.rows import (
    PROGRESS,
    Mode,
    Row,
    check_mode,
    columns_of,
    last_of_each,
    quoted,
    quoted_table,
    to_line,
)
from executors.stores.watching import Watch

MEMORY: Final = ":memory:"
LOCK_RETRY_SECONDS: Final = 0.1
MAX_QUERY_CHARACTERS: Final = 20_000
CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "threads": 2,
    "memory_limit": "512MB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    # SQL must not read the variables of this process.
    "python_enable_replacements": False,
    # Nothing may change what confines it.
    "lock_configuration": True,
}
ZONED: Final = "TIMESTAMP WITH TIME ZONE"
CONFINED: Final = {"enable_external_access": False}
POINTED: Final = frozenset((float, Decimal))
BOUND: Final = POINTED | {NoneType, bool, int, str, bytes, datetime, date, time, timedelta, UUID}
"""The types of values that DuckDB binds as they are."""
CHANGING: Final = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE_INTO"))
"""The types of statements that change rows, by the names DuckDB has for them."""


class _DuckDb:
    """One open file, which ends with the context."""

    def __init__(self, path: Path | str, watch: Watch, *, read_only: bool = False, confined: bool = True) -> None:
        self._path, self._watch, self._read_only, self._confined = path, watch, read_only, confined
        self._stack = contextlib.ExitStack()
        self._connection: Any = None

    def __enter__(self) -> Self:
        self._connection = connection = self._open()
        self._stack.callback(connection.close)
        self._stack.enter_context(self._watch.stopping(connection.interrupt))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _open(self) -> Any:
        """Connect; while another process holds the file, try again until the time is over."""
        # Imported when used: most workers never need it in their own process.
        import _duckdb as duckdb

        from executors.sandbox.duckdb_connection import is_lock

        config = {**CONFIG, **(CONFINED if self._confined else {})}
        while True:
            self._watch.check()
            try:
                return duckdb.connect(str(self._path), read_only=self._read_only, config=config)
            except duckdb.IOException as error:
                if not is_lock(error):
                    raise ActionFailed(
                        "database_unreadable", f"duckdb: {Path(self._path).name} cannot be opened"
                    ) from None
                is_cancelled = self._watch.cancelled.wait(min(LOCK_RETRY_SECONDS, self._watch.seconds_left))
                if not is_cancelled and self._watch.is_over:
                    raise ActionFailed("database_locked", "duckdb: another process holds the file") from None
            except duckdb.Error:
                message = f"duckdb: {Path(self._path).name} cannot be opened, or this step has it open already"
                raise ActionFailed("database_unreadable", message) from None

    @contextlib.contextmanager
    def _failing(self, code: str) -> Iterator[None]:
        import _duckdb as duckdb

        self._watch.check()
        try:
            yield
        except (duckdb.Error, RuntimeError, TypeError, ValueError) as error:
            # It may have been stopped from here.
            self._watch.check()
            raise ActionFailed(code, f"duckdb: {error}") from None

    def _refuse_functions(self, text: str) -> None:
        """Raises: `ValueError` for functions that no step may call, in the SQL or in what the file has of its own; and
        for SQL that is too long: nothing stops DuckDB while it plans.
        """
        if len(text) > MAX_QUERY_CHARACTERS:
            raise ValueError(f"a statement has {MAX_QUERY_CHARACTERS} characters at most")
        # With DuckDB itself, as in `_open`.
        from executors.sandbox.duckdb_connection import check_definitions
        from executors.sandbox.duckdb_rules import refuse_functions
        from executors.sandbox.duckdb_tokens import split

        for statement in split(text):
            refuse_functions(statement.tokens)
        check_definitions(self._connection)


class DuckDbSource(_DuckDb):
    """The rows of one query; `params` are bound, as `$name`."""

    def __init__(
        self, path: Path | str, query: str, params: Mapping[str, Any], watch: Watch, *, confined: bool = True
    ) -> None:
        super().__init__(path, watch, read_only=path != MEMORY, confined=confined)
        self._query, self._params = query, dict(params)

    def batches(self, size: int, key: str | None = None, after: Any = None) -> Iterator[list[Row]]:
        """As `rows.Source` has it."""
        text, values = self._query, self._params
        with self._failing("source_failed"):
            if self._confined:
                self._refuse_functions(text)
            statements = self._connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type.name != "SELECT":
                raise ActionFailed("source_failed", "duckdb: a source is one SELECT")
            text = statements[0].query.strip().rstrip(";")
            # Names that the query does not have are refused.
            values = {name: value for name, value in values.items() if name in statements[0].named_parameters}
            if key is not None:
                behind = "" if after is None else f" WHERE {quoted(key)} > $noetl_after"
                text = f"SELECT * FROM ({text}\n) AS noetl_rows{behind} ORDER BY {quoted(key)}"  # noqa: S608  (the author's query, a quoted name)
                values = values if after is None else {**values, "noetl_after": after}
            self._connection.execute(self._with_plain_times(text, values), values)
            names = [column[0] for column in self._connection.description]
        if len(set(names)) < len(names):
            raise ActionFailed("source_failed", "two columns of the query have one name: give them others")
        while True:
            with self._failing("source_failed"):
                found = self._connection.fetchmany(size)
            if not found:
                return
            yield [dict(zip(names, row, strict=True)) for row in found]

    def _with_plain_times(self, text: str, values: Mapping[str, Any]) -> str:
        """The query with points in time as texts: Python's form of them needs a package more."""
        self._connection.execute(f"SELECT * FROM ({text}\n) AS noetl_rows LIMIT 0", values)  # noqa: S608  (the author's query)
        timed = [quoted(name) for name, kind, *_ in self._connection.description if str(kind) == ZONED]
        if not timed:
            return text
        texts = ", ".join(f"CAST({name} AS VARCHAR) AS {name}" for name in timed)
        return f"SELECT * REPLACE ({texts}) FROM ({text}\n) AS noetl_rows"  # noqa: S608  (the author's query, quoted names)


class DuckDbWriting(_DuckDb):
    """Writes into the file; what is written counts with `commit`. `changed` is how many rows that was so far."""

    def __init__(self, path: Path | str, watch: Watch) -> None:
        super().__init__(path, watch)
        self._is_open = False
        self.changed = 0

    def commit(self) -> None:
        """As `rows.Sink` has it."""
        if self._is_open:
            self._run("COMMIT")
            self._is_open = False

    def read_note(self, name: str) -> str | None:
        """As `rows.NotingSink` has it."""
        self._run(f"CREATE TABLE IF NOT EXISTS {PROGRESS} (name TEXT PRIMARY KEY, note TEXT)")
        self._run(f"SELECT note FROM {PROGRESS} WHERE name = $1", [name])  # noqa: S608  (a constant)
        found = self._connection.fetchone()
        self.commit()
        return None if found is None else str(found[0])

    def swap_note(self, name: str, before: str | None, after: str) -> bool:
        """As `rows.NotingSink` has it."""
        if before is None:
            text, values = f"INSERT INTO {PROGRESS} VALUES ($1, $2) ON CONFLICT DO NOTHING", [name, after]  # noqa: S608  (a constant)
        else:
            text, values = f"UPDATE {PROGRESS} SET note = $1 WHERE name = $2 AND note = $3", [after, name, before]  # noqa: S608  (a constant)
        self._run(text, values)
        return bool(self._connection.fetchone() == (1,))

    def _run(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._failing("target_failed"):
            if not self._is_open and statement != "COMMIT":
                self._connection.execute("BEGIN")
                self._is_open = True
            self._connection.execute(statement, list(values))

    def _count(self) -> int:
        """How many rows the last statement changed."""
        with self._failing("target_failed"):
            names = [column[0] for column in self._connection.description or ()]
            rows = self._connection.fetchall()
        # With RETURNING the rows themselves come.
        return int(rows[0][0]) if names == ["Count"] and len(rows) == 1 else len(rows)


class DuckDbChanges(DuckDbWriting):
    """One statement that changes rows of the file, and does nothing else."""

    def run(self, statement: str, all_values: Sequence[Sequence[Any]]) -> None:
        """Run it once for each of several values, which are `$1`, `$2`, ... Raises: `ActionFailed`."""
        if not all_values:
            return
        self._look_at(statement)
        for number, values in enumerate(all_values):
            try:
                self._run(statement, [_cell(value) for value in values])
            except ActionFailed as failure:
                raise ActionFailed(failure.code, f"params: the entry at index {number}: {failure}") from None
            self.changed += self._count()

    def _look_at(self, statement: str) -> None:
        """Raises: `ActionFailed` (`sql_refused`) when it, or a view or macro of the file, does what no step may."""
        from executors.sandbox.duckdb_rules import Refused
        from executors.sandbox.duckdb_tokens import TextRefused

        with self._failing("target_failed"):
            kinds = [one.type.name for one in self._connection.extract_statements(statement)]
            try:
                if len(kinds) != 1 or kinds[0] not in CHANGING:
                    raise Refused(f"a statement here is one of {', '.join(sorted(CHANGING))}: for others, add a step")
                self._refuse_functions(statement)
            except (Refused, TextRefused) as error:
                raise ActionFailed("sql_refused", f"duckdb: {error}") from None


class DuckDbSink(DuckDbWriting):
    """One table of the file; what is written counts with `commit`. `upsert` needs a primary or unique key there."""

    def __init__(
        self, path: Path | str, table: str, watch: Watch, *, mode: Mode = "append", key: Sequence[str] = ()
    ) -> None:
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
        rows = last_of_each(rows, self._key) if finds else rows
        # A list for each column: row by row DuckDB takes minutes for what takes it seconds so.
        values = [_column([_cell(row.get(name)) for row in rows]) for name in columns]
        self._run(self._statement(columns), values)
        self.changed += self._count()

    def _statement(self, columns: list[str]) -> str:
        names = ", ".join(map(quoted, columns))
        rows = "SELECT " + ", ".join(f"unnest(${number}) AS {quoted(name)}" for number, name in enumerate(columns, 1))
        rest = [quoted(name) for name in columns if name not in self._key]
        if self._mode == "update":
            sets = ", ".join(f"{name} = b.{name}" for name in rest)
            found = " AND ".join(f"{self._table}.{quoted(name)} = b.{quoted(name)}" for name in self._key)
            if not sets:
                raise ActionFailed("arguments_invalid", "the mode update needs a column beside the key")
            return f"UPDATE {self._table} SET {sets} FROM ({rows}) AS b WHERE {found}"  # noqa: S608  (quoted)
        text = f"INSERT INTO {self._table} ({names}) {rows}"
        if self._mode == "upsert":
            sets = ", ".join(f"{name} = excluded.{name}" for name in rest)
            text += f" ON CONFLICT ({', '.join(map(quoted, self._key))}) DO "
            text += f"UPDATE SET {sets}" if sets else "NOTHING"
        return text


def parquet_source(path: Path, watch: Watch) -> DuckDbSource:
    """The rows of a Parquet file. Raises: `ActionFailed` (`path_not_allowed`)."""
    if any(character in str(path) for character in "*?["):
        raise ActionFailed("path_not_allowed", "a Parquet file has no *, ? and [ in its name: they stand for others")
    query = "SELECT * FROM read_parquet($noetl_path)"
    return DuckDbSource(MEMORY, query, {"noetl_path": str(path)}, watch, confined=False)


def lines_to_parquet(lines: Path, parquet: Path, watch: Watch) -> None:
    """Make a Parquet file of one with a JSON map in each line; types are what the values look like."""
    with _DuckDb(MEMORY, watch, confined=False) as database, database._failing("file_error"):
        read = "read_json($1, format = 'newline_delimited', records = true, sample_size = -1, union_by_name = true)"
        to = str(parquet).replace("'", "''")
        database._connection.execute(f"COPY (SELECT * FROM {read}) TO '{to}' (FORMAT parquet)", [str(lines)])  # noqa: S608  (a path of this process's making)


def _column(cells: list[Any]) -> list[Any]:
    """The cells of one column as DuckDB takes each of them into the column's type.

    A list has one type in DuckDB, and what does not fit is changed on the way. So it goes as texts, which are cast one
    by one, when the cells are of several types; so do numbers with a point, of which a list loses digits and NaN.
    """
    kinds = set(map(type, cells)) - {NoneType}
    if len(kinds) < 2 and kinds.isdisjoint(POINTED):
        return cells
    return [None if cell is None else _text(cell) for cell in cells]


def _text(cell: Any) -> str:
    match cell:
        case bool():
            return "true" if cell else "false"
        case Decimal():
            return format(cell, "f")
        case datetime() | date() | time():
            return cell.isoformat()
        case bytes():
            return "".join(f"\\x{byte:02X}" for byte in cell)
    return str(cell)


def _cell(value: Any) -> Any:
    """A value as DuckDB can bind it: of a type that it does not know the text."""
    if type(value) in BOUND:
        return value
    if isinstance(value, dict | list | tuple):
        return to_line(value)
    return bytes(value) if isinstance(value, bytearray | memoryview) else str(value)
