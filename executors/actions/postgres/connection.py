"""One connection to a user's database: opening it, and running a statement that can be stopped.

Knows libpq's way of streaming results; nothing of steps. psycopg's own cursors either read a whole result
into memory or cannot run statements without one, so the wait is written here, with the bounds in it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from threading import Event
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import JsonbDumper
from psycopg.types.numeric import FloatLoader

from executors.contract import ActionFailed, Credential
from executors.sandbox.rows import RowBudget, to_rows, unique_names, with_rows, without_rows

CHUNK_ROWS = 500
POLL_SECONDS = 0.05
CANCEL_SECONDS = 3.0
CONNECT_SECONDS = 10
FIELDS = {
    "host": ("db_host", "host"),
    "port": ("db_port", "port"),
    "user": ("db_user", "user", "username"),
    "password": ("db_password", "password"),
    "dbname": ("db_name", "dbname", "database"),
    "sslmode": ("sslmode",),
}
DSN_FIELDS = ("db_conn_string", "dsn")
REQUIRED = ("host", "user", "dbname")
# Of a DSN only these count: others read files of the worker (`service`, `passfile`, `sslkey`).
DSN_OPTIONS = (*FIELDS, "hostaddr", "options", "target_session_attrs", "keepalives")


class StatementFailed(Exception):
    """The server refused a statement."""

    def __init__(self, message: str, sqlstate: str = "") -> None:
        self.sqlstate = sqlstate
        super().__init__(message)


def connection_options(credential: Credential) -> dict[str, str]:
    """libpq's options from a credential's fields. Raises: `ActionFailed` naming what is missing."""
    options: dict[str, str] = {}
    for field in DSN_FIELDS:
        if dsn := credential.data.get(field):
            try:
                given = conninfo_to_dict(dsn)
            except psycopg.Error:
                raise ActionFailed("credential_invalid", f"{credential.name}: {field} cannot be read") from None
            options = {key: str(value) for key, value in given.items() if key in DSN_OPTIONS and value}
    for option, names in FIELDS.items():
        value = next((credential.data[name] for name in names if credential.data.get(name)), None)
        if value is not None:
            options[option] = str(value)
    # Without a password libpq would try the worker's own (PGPASSWORD); a local socket needs none.
    required = REQUIRED if options.get("host", "").startswith("/") else (*REQUIRED, "password")
    if missing := [FIELDS[option][0] for option in required if not options.get(option)]:
        raise ActionFailed("credential_invalid", f"credential {credential.name!r} lacks {', '.join(missing)}")
    return options


class StoppableConnection:
    """A connection whose statements end at a deadline or when the job is cancelled."""

    def __init__(self, options: Mapping[str, str], deadline: float, cancelled: Event) -> None:
        self._deadline = deadline
        self._cancelled = cancelled
        wait = max(2, min(CONNECT_SECONDS, int(deadline - time.monotonic())))
        known = {
            **options,
            "application_name": "noetl-step",
            "passfile": "/dev/null",
            "connect_timeout": str(wait),
        }
        self._connection = psycopg.connect(**known, autocommit=True)  # type: ignore[arg-type]  # libpq words, checked above
        self._connection.adapters.register_loader("numeric", FloatLoader)
        # A map given as a parameter is JSON.
        self._connection.adapters.register_dumper(dict, JsonbDumper)
        self._pgconn = self._connection.pgconn

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status != pq.TransactionStatus.IDLE

    def run(self, statement: str, params: Mapping[str, Any] | None, budget: RowBudget) -> dict[str, Any]:
        """One statement's result.

        Raises: `StatementFailed`; `ActionFailed` (`timeout`, `cancelled`) and `OutputTooLarge`, after which
        the connection is of no more use.
        """
        if params is not None:
            statement = psycopg.ClientCursor(self._connection).mogrify(statement, params)
        try:
            self._pgconn.send_query_params(statement.encode(), None)
            self._pgconn.set_chunked_rows_mode(CHUNK_ROWS)
            return self._read(budget)
        except psycopg.OperationalError as error:
            raise StatementFailed(str(error)) from None

    def _read(self, budget: RowBudget) -> dict[str, Any]:
        """Take all results of the statement just sent; the last one says how it went."""
        columns: list[str] = []
        rows: list[dict[str, Any]] = []
        summary: dict[str, Any] = {}
        failed: StatementFailed | None = None
        transformer = Transformer(self._connection)
        while (result := self._next_result()) is not None:
            status = result.status
            if status in (pq.ExecStatus.TUPLES_CHUNK, pq.ExecStatus.TUPLES_OK):
                columns = columns or _columns(result)
                transformer.set_pgresult(result)
                rows += to_rows(columns, transformer.load_rows(0, result.ntuples, tuple), budget)
                summary = with_rows(columns, rows)
            elif status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
                summary = without_rows(result.command_tuples or 0, (result.command_status or b"").decode())
            elif status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
                self.close()
                raise StatementFailed("COPY FROM STDIN and COPY TO STDOUT are not possible in a step")
            else:
                failed = _failure(result)
        if failed is not None:
            raise failed
        return summary

    def _next_result(self) -> pq.abc.PGresult | None:
        while True:
            self._pgconn.flush()
            if not self._pgconn.is_busy():
                return self._pgconn.get_result()
            left = self._deadline - time.monotonic()
            if self._cancelled.is_set():
                self._abandon("cancelled", "stopped because the job was cancelled")
            if left <= 0:
                self._abandon("timeout", "the statement was stopped: the step's time is over")
            if select.select([self._pgconn.socket], [], [], min(left, POLL_SECONDS))[0]:
                self._pgconn.consume_input()

    def _abandon(self, code: str, message: str) -> None:
        """Cancel on the server, so that no work goes on there, and give up the connection."""
        self._cancel()
        self.close()
        raise ActionFailed(code, message)

    def _cancel(self) -> None:
        try:
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)
        except psycopg.Error:
            # Unreachable; statement_timeout ends it there.
            return

    def close(self) -> None:
        """Close, and roll back what is open. A statement still running is cancelled first."""
        if self._connection.closed:
            return
        if self._connection.info.transaction_status == pq.TransactionStatus.ACTIVE:
            self._cancel()
        self._connection.close()


def _columns(result: pq.abc.PGresult) -> list[str]:
    return unique_names((result.fname(number) or b"").decode() for number in range(result.nfields))


def _failure(result: pq.abc.PGresult) -> StatementFailed:
    sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    primary = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message or b"unknown error"
    detail = result.error_field(pq.DiagnosticField.MESSAGE_DETAIL)
    text = b". ".join(part for part in (primary, detail) if part).decode(errors="replace").strip()
    return StatementFailed(text, sqlstate)
