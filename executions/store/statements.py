"""Running the named statements of `executions/sql`, and JSON in and out of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connection

_FOLDER: Final = Path(__file__).parent.parent / "sql"
_FILES: Final = [aiosql.from_path(_FOLDER / name, "psycopg") for name in ("executions.sql", "waiting.sql")]
_STATEMENTS: Final[dict[str, Any]] = {
    name: getattr(queries, name) for queries in _FILES for name in queries.available_queries
}


def rows(name: str, **parameters: Any) -> list[Any]:
    """Run a named statement and give its rows; errors are Django's, as from the ORM."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return list(_STATEMENTS[name](connection.connection, **parameters))


def execute(name: str, **parameters: Any) -> None:
    """Run a named statement that gives no rows."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        _STATEMENTS[name](connection.connection, **parameters)


def json_text(value: Any) -> str | None:
    """A value as JSON text; None, which is SQL's NULL, for null."""
    return None if value is None else json.dumps(value, allow_nan=False)


def json_value(text: str | None) -> Any:
    """The value of a JSON text."""
    return None if text is None else json.loads(text)
