"""Prepared statements of one connection, run through libpq itself: what a step costs is made of them.

psycopg's cursors do more than is needed here (adaptation by type, row factories, several results) and take several
times as long. Values go and come as text; the types are those the statement gives its parameters by its casts.
"""

from __future__ import annotations

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


class PreparedStatements:
    """The statements that one connection has prepared, by their names. Not thread-safe, as its connection."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._known: dict[str, tuple[bytes, Sequence[str]]] = {}

    def run(self, name: str, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement with `%(name)s` for its parameters, and give its rows.

        Parameters are None, bool, int, float, str, datetime or flat lists of them. Raises: psycopg's errors.
        """
        prepared = self._known.get(name)
        if self._pgconn.transaction_status == TransactionStatus.IDLE and not self._connection.autocommit:
            self._check(self._pgconn.exec_(b"BEGIN"))
        if prepared is None:
            prepared = self._prepare(name, sql, parameters)
        key, order = prepared
        values: list[Any] = [encode(parameters[each]) for each in order]
        return _rows(self._check(self._pgconn.exec_prepared(key, values)))

    def _prepare(self, name: str, sql: str, parameters: Mapping[str, Any]) -> tuple[bytes, Sequence[str]]:
        order = tuple(parameters)
        numbered = {each: f"${place}" for place, each in enumerate(order, 1)}
        key = name.encode()
        self._check(self._pgconn.prepare(key, (sql % numbered).encode()))
        self._known[name] = key, order
        return key, order

    def _check(self, result: PGresult) -> PGresult:
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
