"""Prepared statements of one connection, run through libpq itself: what a step costs is made of them.

psycopg's cursors do more than is needed here (adaptation by type, row factories, several results) and take several
times as long. Values go and come as text; the types are those the statement gives its parameters by its casts.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from psycopg import Connection, DataError, OperationalError
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

Decoder = Callable[[bytes], Any]

_GOOD: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})


def _text(data: bytes) -> str:
    return data.decode()


def _moment(data: bytes) -> datetime:
    return datetime.fromisoformat(data.decode())


_DECODERS: Final[Mapping[int, Decoder]] = {
    16: b"t".__eq__,
    20: int,
    21: int,
    23: int,
    25: _text,
    701: float,
    1043: _text,
    1184: _moment,
}
"""By the object ids of Postgres's types: bool, bigint, smallint, int, text, float8, varchar, timestamptz."""


class Answer:
    """The rows of a statement that was sent, or will be with the next that somebody waits for."""

    __slots__ = ("_collect", "rows")

    def __init__(self, collect: Callable[[], None]) -> None:
        self._collect = collect
        self.rows: list[tuple[Any, ...]] | None = None

    def take(self) -> list[tuple[Any, ...]]:
        """The rows. Raises: psycopg's errors, of this statement or of one that was to be sent before it."""
        if self.rows is None:
            self._collect()
        assert self.rows is not None
        return self.rows


class PreparedStatements:
    """The statements that one connection has prepared, by their names. Not thread-safe, as its connection.

    `ask` sends nothing: what was asked for goes out together (libpq's pipeline) when one of the answers is taken, or
    with the COMMIT.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._known: dict[str, tuple[bytes, Sequence[str]]] = {}
        self._asked: list[tuple[bytes, list[Any], Answer]] = []

    def ask(self, name: str, sql: str, parameters: Mapping[str, Any]) -> Answer:
        """Run a statement with `%(name)s` for its parameters, at the latest when its answer is taken.

        Parameters are None, bool, int, float, str, datetime or flat lists of them. Raises: psycopg's errors.
        """
        key, order = self._known.get(name) or self._prepare(name, sql, parameters)
        answer = Answer(self.send)
        self._asked.append((key, [encode(parameters[each]) for each in order], answer))
        return answer

    def send(self, *, and_commit: bool = False) -> None:
        """Send what was asked for, in its order, and read the answers. Raises: the first error; all is over then."""
        asked, self._asked = self._asked, []
        begins = self._begins()
        if len(asked) == 1 and not (begins or and_commit):
            [(key, values, answer)] = asked
            answer.rows = _rows(self._checked(self._pgconn.exec_prepared(key, values)))
        elif asked or and_commit:
            self._send_all(asked, begins=begins, and_commit=and_commit)

    def forget(self) -> None:
        """What was asked for is not wanted any more: its transaction is rolled back."""
        self._asked.clear()

    @property
    def has_asked(self) -> bool:
        """Whether something has still to be sent."""
        return bool(self._asked)

    def _begins(self) -> bool:
        idle = self._pgconn.transaction_status == TransactionStatus.IDLE
        return idle and not self._connection.autocommit

    def _send_all(self, asked: list[tuple[bytes, list[Any], Answer]], *, begins: bool, and_commit: bool) -> None:
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        try:
            if begins:
                pgconn.send_query_params(b"BEGIN", None)
            for key, values, _ in asked:
                pgconn.send_query_prepared(key, values)
            if and_commit:
                pgconn.send_query_params(b"COMMIT", None)
            pgconn.pipeline_sync()
            self._wait_to_write()
            results = [self._next_result() for _ in range(begins + len(asked) + and_commit)]
            self._next_result()
        finally:
            pgconn.exit_pipeline_mode()
        for result in results:
            self._checked(result)
        for (_, _, answer), result in zip(asked, results[begins:], strict=False):
            answer.rows = _rows(result)

    def _wait_to_write(self) -> None:
        while self._pgconn.flush():
            # The server may wait for its answers to be taken before it reads on.
            self._poll(select.POLLIN | select.POLLOUT)
            self._pgconn.consume_input()

    def _wait_to_read(self) -> None:
        """Until an answer is there. `get_result` would wait as well, but with all threads of this process stopped."""
        while self._pgconn.is_busy():
            self._poll(select.POLLIN)
            self._pgconn.consume_input()

    def _poll(self, events: int) -> None:
        poll = select.poll()
        poll.register(self._pgconn.socket, events)
        poll.poll()

    def _next_result(self) -> PGresult:
        """The result of the next statement, or of the synchronisation after the last. Raises: `OperationalError`."""
        self._wait_to_read()
        result = self._pgconn.get_result()
        if result is None:
            raise OperationalError(f"the connection is lost: {self._pgconn.get_error_message()}")
        if result.status != ExecStatus.PIPELINE_SYNC:
            # A statement's results end with none.
            self._wait_to_read()
            self._pgconn.get_result()
        return result

    def _prepare(self, name: str, sql: str, parameters: Mapping[str, Any]) -> tuple[bytes, Sequence[str]]:
        if self._begins():
            self._checked(self._pgconn.exec_(b"BEGIN"))
        order = tuple(parameters)
        numbered = {each: f"${place}" for place, each in enumerate(order, 1)}
        key = name.encode()
        self._checked(self._pgconn.prepare(key, (sql % numbered).encode()))
        self._known[name] = key, order
        return key, order

    def _checked(self, result: PGresult) -> PGresult:
        if result.status not in _GOOD:
            if self._pgconn.status == ConnStatus.BAD:
                # The server has gone, and so could give no code that tells the error's kind.
                raise OperationalError(result.error_message.decode(errors="replace").strip())
            raise error_from_result(result, encoding="utf-8")
        return result


def _rows(result: PGresult) -> list[tuple[Any, ...]]:
    decoders = [_DECODERS[result.ftype(column)] for column in range(result.nfields)]
    columns = list(enumerate(decoders))
    value = result.get_value
    return [
        tuple([None if (data := value(row, column)) is None else decode(data) for column, decode in columns])
        for row in range(result.ntuples)
    ]


def encode(value: Any) -> bytes | None:
    """A value as the text that Postgres reads; a list as an array. Raises: `DataError` for a text with NUL."""
    if value is None:
        return None
    if isinstance(value, list):
        return ("{" + ",".join(map(_element, value)) + "}").encode()
    return _plain(value).encode()


def _plain(value: Any) -> str:
    if isinstance(value, str):
        # libpq takes text to its first NUL, and would lose the rest without a word.
        if "\x00" in value:
            raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is no parameter of a statement")


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    text = _plain(value)
    if isinstance(value, str | datetime):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text
