"""Running the named statements of `executions/sql`, and JSON in and out of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import Error, connection, transaction
from psycopg import Cursor

_FOLDER: Final = Path(__file__).parent.parent / "sql"
_FILES: Final = [aiosql.from_path(_FOLDER / name, "psycopg") for name in ("executions.sql", "waiting.sql")]
_STATEMENTS: Final[dict[str, str]] = {
    name: getattr(queries, name).sql for queries in _FILES for name in queries.available_queries
}
_encode: Final = json.JSONEncoder(allow_nan=False).encode


def rows(name: str, **parameters: Any) -> list[Any]:
    """Run a named statement and give its rows; errors are Django's, as from the ORM."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return _run(name, parameters).fetchall()


def execute(name: str, **parameters: Any) -> None:
    """Run a named statement that gives no rows. Inside `pipelined` it goes out with the next one that gives some."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        _run(name, parameters)


def _run(name: str, parameters: dict[str, Any]) -> Cursor[Any]:
    # A cursor that binds on the server, where the statement stays prepared; Django's own writes values into the text.
    return Cursor(connection.connection).execute(_STATEMENTS[name], parameters)


@contextmanager
def pipelined() -> Iterator[None]:
    """Statements that give no rows are sent together with the next that does and fail there."""
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


@contextmanager
def savepoint() -> Iterator[None]:
    """Undo on an exception what was done inside, and no more; what was sent through a pipeline has been done then."""
    with transaction.atomic():
        try:
            yield
        except BaseException:
            # A pipeline takes nothing any more, not even a rollback, until it is told that its error has been seen.
            with suppress(Error):
                _settle()
            raise
        _settle()


def _settle() -> None:
    """Wait for everything that was sent through a pipeline; what failed fails here."""
    raw = connection.connection
    if raw is not None and raw.info.pipeline_status:
        with connection.wrap_database_errors, raw.pipeline() as pipeline:
            pipeline.sync()


def json_text(value: Any) -> str | None:
    """A value as JSON text; None, which is SQL's NULL, for null."""
    return None if value is None else _encode(value)


def json_value(text: str | None) -> Any:
    """The value of a JSON text."""
    return None if text is None else json.loads(text)
