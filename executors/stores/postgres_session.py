"""One connection to a user's database: opening it, and running statements that can be stopped.

Knows libpq's way of streaming results; nothing of steps. psycopg's own cursors either read a whole result
into memory or cannot run statements without one, so the wait is written here, with the bounds in it.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO, Final, Protocol

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer

from executors.contract import ActionFailed
from executors.sandbox.rows import RowBudget, to_rows, unique_names, with_rows, without_rows
from executors.stores.postgres_values import adapt

CHUNK_ROWS: Final = 100
COPY_BYTES: Final = 64 * 1024
PIPELINED: Final = 200
"""How many times a statement is sent before the answers are read."""
HELD_BYTES: Final = 256 << 20
"""How much this process may grow while it reads one row, or one chunk of rows."""
LOOK_EVERY: Final = 16
"""Reads from the server between two looks at that."""
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
POLL_SECONDS: Final = 0.05
CANCEL_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 10
ANSWER_SECONDS: Final = 3.0
"""How long an idle connection may take to answer before it is given up."""
SERVER_SLACK_SECONDS: Final = 2.0
MOST_MILLISECONDS: Final = 2**31 - 1
"""The longest `statement_timeout`: what takes weeks has only the clock here."""
ROWS: Final = (pq.ExecStatus.TUPLES_CHUNK, pq.ExecStatus.TUPLES_OK)
DONE: Final = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)
# `statement_timeout` is a net for the case that a cancel request does not get through; the clock here comes first.
# Templates were escaped for strings that take a backslash as itself.
BEGIN: Final = (
    "SELECT set_config('statement_timeout', $1, false), set_config('standard_conforming_strings', 'on', false)"
)


class StatementFailed(Exception):
    """The server refused a statement; `number` says which of several values it was given."""

    def __init__(self, message: str, sqlstate: str = "", number: int | None = None) -> None:
        self.sqlstate, self.number = sqlstate, number
        super().__init__(message)


class Rows(Protocol):
    """Where the rows of a statement go."""

    def add(self, columns: list[str], tuples: Sequence[Sequence[Any]]) -> None:
        """Take some rows; called at least once for a statement that returns rows, also when it returns none."""

    def result(self) -> dict[str, Any]:
        """What is told of the statement, once all rows are there."""


class KeptRows:
    """Rows in memory, within the budget of a step."""

    def __init__(self, budget: RowBudget) -> None:
        self._budget = budget
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, columns: list[str], tuples: Sequence[Sequence[Any]]) -> None:
        """Keep some. Raises: `OutputTooLarge`."""
        self._columns = columns
        self._rows += to_rows(columns, tuples, self._budget)

    def result(self) -> dict[str, Any]:
        """`{status, rows, row_count, columns}`."""
        return with_rows(self._columns, self._rows)


class Session:
    """A connection whose statements end at a deadline or when the job is cancelled."""

    def __init__(self, options: Mapping[str, str], deadline: float) -> None:
        """Connect. Raises: `psycopg.Error`."""
        self._deadline = deadline
        self._cancelled = Event()
        self._unread = False
        self._reads = self._held_before = 0
        wait = int(max(2.0, min(CONNECT_SECONDS, deadline - time.monotonic())))
        known = {
            **options,
            "application_name": "noetl-step",
            # Statements are sent in it; another one, from the role's settings, would read other characters.
            "client_encoding": "UTF8",
            "passfile": "/dev/null",
            "connect_timeout": str(wait),
        }
        self._connection = psycopg.connect(**known, autocommit=True)  # type: ignore[arg-type]  # libpq words, checked above
        adapt(self._connection.adapters)
        self._pgconn = self._connection.pgconn

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status != pq.TransactionStatus.IDLE

    @property
    def address(self) -> dict[str, str]:
        """Where it really leads, as libpq's options `host` and `port`."""
        info = self._connection.info
        return {"host": info.hostaddr or info.host, "port": str(info.port)}

    # -- between jobs ---------------------------------------------------------------------------------

    def begin(self, deadline: float, cancelled: Event) -> None:
        """Be one job's until `clean_later`. Raises: as `run`, also when the last job's traces were not removed."""
        self._cancelled = cancelled
        # One that was idle may be dead without a word; of a new one it is known that it lives.
        self._deadline = min(deadline, time.monotonic() + ANSWER_SECONDS) if self._unread else deadline
        if self._unread:
            self._unread = False
            self._take(_NO_ROWS)
        left = (deadline - time.monotonic() + SERVER_SLACK_SECONDS) * 1000
        milliseconds = int(min(max(1.0, left), MOST_MILLISECONDS))
        self._send(BEGIN, [str(milliseconds)])
        self._take(_NO_ROWS)
        self._deadline = deadline

    def clean_later(self) -> bool:
        """Have the server remove all traces of the job; `begin` reads its answer. Returns: whether it can be kept."""
        if self._connection.closed or self.in_transaction:
            return False
        try:
            self._send("DISCARD ALL", None)
            self._unread = True
            return self._pgconn.flush() == 0
        except psycopg.Error:
            return False

    def close(self) -> None:
        """Close, and roll back what is open. A statement still running is cancelled first: no work goes on there."""
        if self._connection.closed:
            return
        if self._connection.info.transaction_status == pq.TransactionStatus.ACTIVE and not self._unread:
            self._cancel()
        self._connection.close()

    # -- statements -----------------------------------------------------------------------------------

    def run(self, statement: str, values: Sequence[Any] | None = None, rows: Rows | None = None) -> dict[str, Any]:
        """One statement's result; `values` are those of `$1`, `$2`, ...; its rows go to `rows`.

        Raises: `StatementFailed`; `ActionFailed` (`timeout`, `cancelled`) and what `rows` raises, after which the
        connection is of no more use.
        """
        self._check_settings()
        try:
            self._send(statement, values)
            return self._take(rows or _NO_ROWS)
        except psycopg.OperationalError as error:
            raise StatementFailed(str(error)) from None

    def run_many(self, statement: str, all_values: Sequence[Sequence[Any]]) -> int:
        """One statement, once for each of several values, in the transaction that is open.

        `PIPELINED` of them are sent before the first answer is waited for. Returns: how many rows they touched.
        Raises: as `run`; of a `StatementFailed` the `number` says which of the values were refused.
        """
        self._check_settings()
        touched = 0
        for first in range(0, len(all_values), PIPELINED):
            try:
                touched += self._pipeline(statement, all_values[first : first + PIPELINED], first)
            except psycopg.OperationalError as error:
                raise StatementFailed(str(error)) from None
        return touched

    def copy_to(self, statement: str, file: BinaryIO) -> dict[str, Any]:
        """`COPY ... TO STDOUT` into a file. Raises: as `run`."""
        return self._copy(statement, pq.ExecStatus.COPY_OUT, lambda: self._receive(file))

    def copy_from(self, statement: str, file: BinaryIO) -> dict[str, Any]:
        """`COPY ... FROM STDIN` out of a file. Raises: as `run`."""
        return self._copy(statement, pq.ExecStatus.COPY_IN, lambda: self._supply(file))

    def _copy(self, statement: str, wanted: pq.ExecStatus, move: Callable[[], None]) -> dict[str, Any]:
        self._check_settings()
        try:
            self._send(statement, None)
            return self._take(_NO_ROWS, {wanted: move})
        except psycopg.OperationalError as error:
            raise StatementFailed(str(error)) from None

    def _check_settings(self) -> None:
        """A statement before may have changed what templates and this connection rely on."""
        if self._pgconn.parameter_status(b"standard_conforming_strings") == b"off":
            raise StatementFailed("standard_conforming_strings is off, and must be on: values were escaped for that")
        if self._pgconn.parameter_status(b"client_encoding") != b"UTF8":
            raise StatementFailed("client_encoding was changed, and must be UTF8")

    def _send(self, statement: str, values: Sequence[Any] | None) -> None:
        """Send one statement: the extended protocol takes no second one behind a `;`."""
        self._post(statement, values)
        self._pgconn.set_chunked_rows_mode(CHUNK_ROWS)

    def _post(self, statement: str, values: Sequence[Any] | None) -> None:
        text = statement.encode()
        if not values:
            self._pgconn.send_query_params(text, None)
            return
        transformer = Transformer(self._connection)
        dumped = transformer.dump_sequence(values, [PyFormat.TEXT] * len(values))
        self._pgconn.send_query_params(text, dumped, transformer.types, transformer.formats)

    def _by_chunks(self) -> None:
        """Have the rows of a pipeline's next statement come in chunks; behind one that failed there are none."""
        with contextlib.suppress(psycopg.OperationalError):
            self._pgconn.set_chunked_rows_mode(CHUNK_ROWS)

    def _take(self, rows: Rows, moves: Mapping[int, Callable[[], None]] | None = None) -> dict[str, Any]:
        """Take all results of the statement just sent; the last one says how it went."""
        columns: list[str] | None = None
        summary: dict[str, Any] = {}
        failed: StatementFailed | None = None
        transformer = Transformer(self._connection)
        try:
            while (result := self._next_result()) is not None:
                if result.status in ROWS:
                    columns = _columns(result) if columns is None else columns
                    transformer.set_pgresult(result)
                    rows.add(columns, transformer.load_rows(0, result.ntuples, tuple))
                elif result.status in DONE:
                    summary = without_rows(result.command_tuples or 0, (result.command_status or b"").decode())
                elif moves and result.status in moves:
                    moves[result.status]()
                elif result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
                    raise StatementFailed("COPY wants a file, and `copy` names none")
                else:
                    failed = _failure(result)
        except BaseException:
            # What the server sends yet would be taken for the answer to something else.
            self.close()
            raise
        if failed is not None:
            raise failed
        return summary if columns is None else rows.result()

    def _pipeline(self, statement: str, all_values: Sequence[Sequence[Any]], first: int) -> int:
        touched, number = 0, 0
        failed: StatementFailed | None = None
        try:
            self._pgconn.enter_pipeline_mode()
            for values in all_values:
                self._post(statement, values)
            self._pgconn.pipeline_sync()
            self._by_chunks()
            while (result := self._next_result()) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
                if result is None:
                    # The answer to one statement is over.
                    number += 1
                    if number < len(all_values):
                        self._by_chunks()
                elif result.status in (*ROWS, *DONE):
                    touched += result.command_tuples or 0
                elif result.status != pq.ExecStatus.PIPELINE_ABORTED and failed is None:
                    failed = _failure(result, first + number)
            self._pgconn.exit_pipeline_mode()
        except BaseException:
            # As in `_take`.
            self.close()
            raise
        if failed is not None:
            raise failed
        return touched

    def _next_result(self) -> pq.abc.PGresult | None:
        self._reads = 0
        while True:
            unsent = self._pgconn.flush()
            if not self._pgconn.is_busy():
                return self._pgconn.get_result()
            self._wait(writing=bool(unsent))

    def _receive(self, file: BinaryIO) -> None:
        while True:
            size, data = self._pgconn.get_copy_data(1)
            if size < 0:
                return
            if size:
                file.write(data)
                self._reads = 0
            else:
                self._wait()

    def _supply(self, file: BinaryIO) -> None:
        try:
            while chunk := file.read(COPY_BYTES):
                while self._pgconn.put_copy_data(chunk) == 0:
                    self._wait(writing=True)
                self._drain()
        except OSError as error:
            while self._pgconn.put_copy_end(f"the file cannot be read: {error.strerror}".encode()) == 0:
                self._wait(writing=True)
            return
        while self._pgconn.put_copy_end() == 0:
            self._wait(writing=True)

    def _drain(self) -> None:
        """Send what is waiting, so that no more than a chunk of a file is ever held."""
        self._check()
        while self._pgconn.flush():
            self._wait(writing=True)

    def _wait(self, *, writing: bool = False) -> None:
        """Wait a little for the server, no longer than the deadline and a cancellation allow."""
        left = self._check()
        socket = [self._pgconn.socket]
        readable, _, _ = select.select(socket, socket if writing else [], [], min(left, POLL_SECONDS))
        if readable:
            self._pgconn.consume_input()
            self._look_at_memory()

    def _look_at_memory(self) -> None:
        """libpq gives a row, and a chunk of them, only when it has all of it. Raises: `ActionFailed`."""
        self._reads += 1
        if self._reads % LOOK_EVERY:
            return
        held = _resident_bytes()
        if self._reads == LOOK_EVERY:
            self._held_before = held
        elif held - self._held_before > HELD_BYTES:
            message = f"{CHUNK_ROWS} rows, or a single one, take more than {HELD_BYTES >> 20} MB: select less of them"
            raise ActionFailed("output_too_large", message)

    def _check(self) -> float:
        """The seconds left. Raises: `ActionFailed`; the statement is then stopped on the server, too."""
        left = self._deadline - time.monotonic()
        if self._cancelled.is_set():
            self.close()
            raise ActionFailed("cancelled", "stopped because the job was cancelled")
        if left <= 0:
            self.close()
            raise ActionFailed("timeout", "the statement was stopped: the step's time is over")
        return left

    def _cancel(self) -> None:
        try:
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)
        except psycopg.Error:
            # Unreachable; statement_timeout ends it there.
            return


class _NoRows:
    """Rows that nobody asked for."""

    def add(self, columns: list[str], tuples: Sequence[Sequence[Any]]) -> None:
        """Leave them."""

    def result(self) -> dict[str, Any]:
        """Nothing."""
        return {}


_NO_ROWS: Final = _NoRows()


def _columns(result: pq.abc.PGresult) -> list[str]:
    return unique_names((result.fname(number) or b"").decode() for number in range(result.nfields))


def _failure(result: pq.abc.PGresult, number: int | None = None) -> StatementFailed:
    sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    primary = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message or b"unknown error"
    detail = result.error_field(pq.DiagnosticField.MESSAGE_DETAIL)
    text = b". ".join(part for part in (primary, detail) if part).decode(errors="replace").strip()
    return StatementFailed(text, sqlstate, number)


def _resident_bytes() -> int:
    """How much memory this process holds; 0 where nobody tells."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * PAGE_BYTES
    except OSError:
        return 0
