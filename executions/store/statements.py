"""Running the named statements of `executions/sql`, and JSON in and out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connection

_FOLDER: Final = Path(__file__).parent.parent / "sql"
_FILES: Final = [aiosql.from_path(_FOLDER / name, "psycopg") for name in ("executions.sql", "waiting.sql")]
_STATEMENTS: Final[dict[str, str]] = {
    name: getattr(queries, name).sql for queries in _FILES for name in queries.available_queries
}
_encode: Final = json.JSONEncoder(allow_nan=False).encode


def ask(name: str, **parameters: Any) -> Callable[[], list[Any]]:
    """Run a named statement. Returns: what gives its rows; it is sent then, or with whatever is sent next."""
    # The project's own database backend; Django's types do not know it.
    asked: Callable[[], list[Any]] = connection.ask_prepared(  # type: ignore[attr-defined]  # see above
        f"executions.{name}", _STATEMENTS[name], parameters
    )
    return asked


def rows(name: str, **parameters: Any) -> list[Any]:
    """Run a named statement and give its rows; errors are Django's, as from the ORM."""
    return ask(name, **parameters)()


def execute(name: str, **parameters: Any) -> None:
    """Run a named statement that gives no rows, at the latest when the transaction commits; it may fail then."""
    ask(name, **parameters)


def json_text(value: Any) -> str | None:
    """A value as JSON text; None, which is SQL's NULL, for null."""
    return None if value is None else _encode(value)


def json_value(text: str | None) -> Any:
    """The value of a JSON text."""
    return None if text is None else json.loads(text)
