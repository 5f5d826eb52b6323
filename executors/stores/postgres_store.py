"""Rows of a user's Postgres database: read by a cursor of the server, written by COPY.

Knows psycopg; where a connection may lead is `postgres_target`'s matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg import sql
from psycopg.types.numeric import NumericLoader

from executors.contract import ActionFailed
from executors.stores.postgres_session import MOST_MILLISECONDS, SERVER_SLACK_SECONDS
from executors.stores.postgres_statements import StatementUnreadable, bind, split_statements
from executors.stores.postgres_target import ForbiddenTarget, Target, refuse_own_database
from executors.stores.postgres_values import adapt
from executors.stores.rows import PROGRESS, Mode, Row, check_mode, columns_of, last_of_each, table_parts, to_line
from executors.stores.watching import Watch

CONNECT_SECONDS: Final = 10
CANCEL_SECONDS: Final = 3.0
LOCK: Final = 0x6E6F65746D
"""Of the advisory lock under which the table of notes is made."""
BATCH: Final = sql.Identifier("noetl_batch")
COLUMN_TYPES: Final = """
    SELECT attname, format_type(atttypid, NULL) FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""


class _Postgres:
    """One open connection, which ends with the context."""

    def __init__(self, target: Target, forbidden: Sequence[ForbiddenTarget], watch: Watch) -> None:
        self._target, self._forbidden, self._watch = target, forbidden, watch
        self._stack = contextlib.ExitStack()
        self._connection: Any = None
        self._socket: Any = None
        """The connection's, by a plain duplicate, whether TLS wraps it or not."""
        self._give_up_at = 0.0

    def __enter__(self) -> Self:
        refuse_own_database(self._target.options, self._forbidden)
        self._watch.check()
        known = {
            **self._target.options,
            "application_name": "noetl-step",
            "client_encoding": "UTF8",
            "passfile": "/dev/null",
            "connect_timeout": str(max(2, min(CONNECT_SECONDS, int(self._watch.seconds_left)))),
        }
        try:
            self._connection = connection = psycopg.connect(**known)  # type: ignore[arg-type]  # libpq's words
        except (psycopg.Error, UnicodeError) as error:
            raise ActionFailed("postgres_connection", self._target.mask(str(error))) from None
        self._stack.callback(connection.close)
        try:
            info = connection.info
            # A name may have meant another address when it was looked up before.
            leads = {"host": info.hostaddr or info.host, "port": str(info.port), "hostaddr": ""}
            refuse_own_database({**self._target.options, **leads}, self._forbidden)
            adapt(connection.adapters)
            # Numbers go on with every digit.
            connection.adapters.register_loader("numeric", NumericLoader)
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))
            self._stack.callback(self._socket.close)
            self._stack.enter_context(self._watch.stopping(self._stop))
            with self._failing("postgres_connection"):
                # What goes on at the server when nobody can tell it to stop.
                ends = min(MOST_MILLISECONDS, int(1000 * (self._watch.seconds_left + SERVER_SLACK_SECONDS)))
                connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(ends)])
                connection.commit()
        except BaseException:
            # Whatever it was, nobody has the store that could close it.
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _stop(self) -> None:
        """Have the server end it; when it cannot be reached, or does not, end the wait for it."""
        self._give_up_at = self._give_up_at or time.monotonic() + CANCEL_SECONDS
        if time.monotonic() < self._give_up_at:
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=CANCEL_SECONDS)
                return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _failing(self, code: str) -> Iterator[None]:
        self._watch.check()
        try:
            yield
        except (psycopg.Error, TypeError, ValueError, OverflowError) as error:
            # It may have been stopped from here.
            self._watch.check()
            raise ActionFailed(code, self._target.mask(f"postgres: {error}")) from None


class PostgresSource(_Postgres):
    """The rows of one query, in a transaction that can write nothing. `params` are bound, as `:name`."""

    def __init__(
        self,
        target: Target,
        query: str,
        params: Mapping[str, Any],
        watch: Watch,
        forbidden: Sequence[ForbiddenTarget] = (),
    ) -> None:
        super().__init__(target, forbidden, watch)
        self._query, self._params = query, params

    def batches(self, size: int, key: str | None = None, after: Any = None) -> Iterator[list[Row]]:
        """As `rows.Source` has it."""
        text, values = self._statement(key, after)
        with self._failing("source_failed"):
            self._connection.read_only = True
            cursor = psycopg.RawServerCursor(self._connection, "noetl")
            self._stack.enter_context(cursor)
            cursor.execute(text.encode(), values)
        while True:
            with self._failing("source_failed"):
                found = cursor.fetchmany(size)
                names = [column.name for column in cursor.description or ()]
            if not found:
                return
            if len(set(names)) < len(names):
                raise ActionFailed("source_failed", "two columns of the query have one name: give them others")
            yield [dict(zip(names, row, strict=True)) for row in found]

    def _statement(self, key: str | None, after: Any) -> tuple[str, list[Any]]:
        try:
            statements = split_statements(self._query)
            if len(statements) != 1:
                raise StatementUnreadable("a source is one query")
            bound = bind(statements[0], self._params)
        except StatementUnreadable as error:
            raise ActionFailed("source_failed", f"query: {error}") from None
        values = [self._params[name] for name in bound.names]
        if key is None:
            return bound.text, values
        column = sql.Identifier(key).as_string()
        behind = "" if after is None else f" WHERE {column} > ${len(values) + 1}"
        # A comment at the query's end must not take the rest along.
        text = f"SELECT * FROM ({bound.text}\n) AS noetl_rows{behind} ORDER BY {column}"  # noqa: S608  (the author's query, a quoted name)
        return text, values if after is None else [*values, after]


class PostgresSink(_Postgres):
    """One table; what is written counts with `commit`."""

    def __init__(
        self,
        target: Target,
        table: str,
        watch: Watch,
        *,
        mode: Mode = "append",
        key: Sequence[str] = (),
        forbidden: Sequence[ForbiddenTarget] = (),
    ) -> None:
        super().__init__(target, forbidden, watch)
        check_mode(mode, key)
        self._table = sql.Identifier(*table_parts(table))
        self._named = table
        self._mode, self._key = mode, list(key)
        self._types: dict[str, str] = {}

    def begin(self) -> None:
        """As `rows.Sink` has it."""
        if self._mode == "overwrite":
            # Two that overwrite wait for each other, and the second must see what the first has done.
            self._run(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(self._table))
            self._run(sql.SQL("DELETE FROM {}").format(self._table))

    def write(self, rows: Sequence[Row]) -> None:
        """As `rows.Sink` has it."""
        if not rows:
            return
        if self._mode in ("append", "overwrite"):
            self._copy(self._table, columns_of(rows), rows)
            return
        columns = columns_of(rows, self._key)
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        # Without the table's constraints: it is the whole row that has to keep them.
        made = sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA")
        self._run(made.format(BATCH, names, self._table))
        self._copy(BATCH, columns, last_of_each(rows, self._key))
        self._run(self._upsert(columns, names) if self._mode == "upsert" else self._update(columns))
        self._run(sql.SQL("DROP TABLE {}").format(BATCH))

    def commit(self) -> None:
        """As `rows.Sink` has it."""
        with self._failing("target_failed"):
            self._connection.commit()

    def read_note(self, name: str) -> str | None:
        """As `rows.NotingSink` has it."""
        with self._failing("target_failed"):
            # Two that make it at once would meet in the catalog's unique index.
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            if self._connection.execute("SELECT to_regclass(%s)", [PROGRESS]).fetchone() == (None,):
                made = f"CREATE TABLE {PROGRESS} (name text PRIMARY KEY, at timestamptz DEFAULT now(), note text)"
                self._connection.execute(made.encode())
            self._connection.commit()
            found = self._connection.execute(f"SELECT note FROM {PROGRESS} WHERE name = %s".encode(), [name]).fetchone()  # noqa: S608  (a constant)
            self._connection.commit()
        return None if found is None else str(found[0])

    def swap_note(self, name: str, before: str | None, after: str) -> bool:
        """As `rows.NotingSink` has it. Whoever comes second waits for the first one's commit."""
        if before is None:
            text = f"INSERT INTO {PROGRESS} (name, note) VALUES (%(name)s, %(after)s) ON CONFLICT DO NOTHING"  # noqa: S608  (a constant)
        else:
            text = f"UPDATE {PROGRESS} SET note = %(after)s, at = now() WHERE name = %(name)s AND note = %(before)s"  # noqa: S608  (a constant)
        with self._failing("target_failed"):
            values = {"name": name, "before": before, "after": after}
            return bool(self._connection.execute(text.encode(), values).rowcount)

    def _run(self, statement: sql.Composable) -> None:
        with self._failing("target_failed"):
            self._connection.execute(statement)

    def _copy(self, table: sql.Composable, columns: list[str], rows: Sequence[Row]) -> None:
        types = [self._type_of(name) for name in columns]
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)
        with self._failing("target_failed"), self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row([_cell(row.get(name), kind) for name, kind in zip(columns, types, strict=True)])

    def _type_of(self, column: str) -> str:
        if not self._types:
            with self._failing("target_failed"):
                found = self._connection.execute(COLUMN_TYPES, [self._table.as_string()]).fetchall()
            if not found:
                raise ActionFailed("target_failed", f"postgres: there is no table {self._named!r}")
            self._types = dict(found)
        if column not in self._types:
            raise ActionFailed("target_failed", f"postgres: the table {self._named!r} has no column {column!r}")
        return self._types[column]

    def _upsert(self, columns: list[str], names: sql.Composable) -> sql.Composable:
        rest = [sql.Identifier(name) for name in columns if name not in self._key]
        sets = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in rest)
        does = sql.SQL("UPDATE SET {}").format(sets) if rest else sql.SQL("NOTHING")
        text = "INSERT INTO {table} ({names}) SELECT {names} FROM {batch} ON CONFLICT ({key}) DO {does}"
        key = sql.SQL(", ").join(map(sql.Identifier, self._key))
        return sql.SQL(text).format(table=self._table, names=names, batch=BATCH, key=key, does=does)

    def _update(self, columns: list[str]) -> sql.Composable:
        pairs = [sql.SQL("{0} = b.{0}").format(sql.Identifier(name)) for name in columns if name not in self._key]
        if not pairs:
            raise ActionFailed("arguments_invalid", "the mode update needs a column beside the key")
        found = [sql.SQL("t.{0} = b.{0}").format(sql.Identifier(name)) for name in self._key]
        text = "UPDATE {} AS t SET {} FROM {} AS b WHERE {}"
        return sql.SQL(text).format(self._table, sql.SQL(", ").join(pairs), BATCH, sql.SQL(" AND ").join(found))


def _cell(value: Any, kind: str) -> Any:
    """A value in the form that its column's type reads from a text."""
    if value is None:
        return None
    if kind in ("json", "jsonb"):
        return to_line(value)
    if isinstance(value, dict):
        return to_line(value)
    if isinstance(value, list) and not kind.endswith("[]"):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool) and kind in ("text", "character varying"):
        return "true" if value else "false"
    return value
