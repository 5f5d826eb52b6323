"""Runs SQL on one DuckDB file, in the child: opens it, confines it, runs, closes it.

Knows DuckDB's settings and result shapes; which paths a step may use was decided by the caller.
Payload: `database`, `statements` (list of SQL texts), `params`, `goes_on` (after an error, too), `allowed_directories`,
`allowed_paths`, `search`, `extensions` (name -> file of a wheel), `extension_directory`, `temp_directory`,
`memory_limit`, `threads`, `lock_wait_seconds`.
"""

from __future__ import annotations

import datetime
import re
import sys
import time
import types
from typing import Any

# Not the `duckdb` package: importing that one starts a thread, and a zygote must not have any.
import _duckdb as duckdb

from executors.sandbox.frames import failure, success
from executors.sandbox.rows import RowBudget, to_rows, unique_names, with_rows, without_rows
from executors.sandbox.sanitise import OutputInvalid, OutputTooLarge, sanitise

FETCH_ROWS = 1000
LOCK_RETRY_SECONDS = 0.05
CHANGE_KINDS = {"INSERT", "UPDATE", "DELETE", "CREATE", "COPY", "MERGE_INTO"}
RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)
EXTENSION_STATEMENT = re.compile(r"^\s*(?:force\s+)?(?:install|load)\s+'?([a-z_0-9]+)'?[\s;]*$", re.IGNORECASE)


class _Utc(datetime.tzinfo):
    """What DuckDB needs of a `pytz` zone. Sessions are in UTC, so no other zone is ever asked for."""

    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(0)

    def tzname(self, dt: datetime.datetime | None) -> str:
        return "UTC"

    def dst(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(0)

    def localize(self, dt: datetime.datetime) -> datetime.datetime:
        return dt.replace(tzinfo=self)


def preload() -> None:
    """DuckDB is loaded with this module; only its wish for `pytz` (TIMESTAMPTZ values) is met here."""
    zones: Any = types.ModuleType("pytz")
    zones.utc = _Utc()
    zones.timezone = lambda name: zones.utc
    zones.UnknownTimeZoneError = KeyError
    sys.modules.setdefault("pytz", zones)


def warm_up() -> None:
    """Nothing: what a job touches depends on its SQL, and DuckDB starts threads."""


def run(payload: dict[str, Any], output_bytes: int) -> dict[str, Any]:
    """The answer: results by statement, or the first error with the results before it (going on: all, with all)."""
    results: dict[str, Any] = {}
    try:
        connection = _open(payload)
    except duckdb.Error as error:
        return failure("database_locked" if _is_lock(error) else "sql_error", f"cannot open the database: {error}")
    try:
        return _run_statements(connection, payload, results, output_bytes)
    finally:
        connection.close()


def _run_statements(
    connection: Any, payload: dict[str, Any], results: dict[str, Any], output_bytes: int
) -> dict[str, Any]:
    budget, failures = RowBudget(max_bytes=output_bytes), list[str]()
    try:
        statements = [s for text in payload["statements"] for s in connection.extract_statements(text)]
        _load_extensions(connection, statements, payload)
        _confine(connection, payload)
    except duckdb.Error as error:
        return failure("sql_error", str(error))
    for index, statement in enumerate(statements):
        name = f"command_{index}"
        try:
            results[name] = sanitise(_run_one(connection, statement, payload, budget), max_bytes=output_bytes)
        except OutputTooLarge as error:
            return failure(error.code, f"{name}: {error}")
        except OutputInvalid as error:
            return failure(error.code, f"{name}: {error}", data=results)
        except (duckdb.Error, ValueError, OverflowError, RuntimeError) as error:
            results[name] = {"status": "error", "message": str(error)}
            failures.append(f"{name}: {error}")
            if not payload["goes_on"]:
                break
    return failure("sql_error", "; ".join(failures), data=results) if failures else success(results)


def _open(payload: dict[str, Any]) -> Any:
    """Connect; while another process holds the file, try again for a bounded time."""
    config = {
        "threads": payload["threads"],
        "memory_limit": payload["memory_limit"],
        "temp_directory": payload["temp_directory"],
        "extension_directory": payload["extension_directory"],
        "home_directory": payload["extension_directory"],
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
        # SQL must not read the variables of this process.
        "python_enable_replacements": False,
    }
    give_up_at = time.monotonic() + payload["lock_wait_seconds"]
    while True:
        try:
            return duckdb.connect(payload["database"], config=config)
        except duckdb.IOException as error:
            if not _is_lock(error) or time.monotonic() >= give_up_at:
                raise
            time.sleep(LOCK_RETRY_SECONDS)


def _is_lock(error: Exception) -> bool:
    return "Could not set lock" in str(error) or "Conflicting lock" in str(error)


def _confine(connection: Any, payload: dict[str, Any]) -> None:
    """Nothing outside the named places can be reached, and no SQL can lift that."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_directories = {_literals(payload['allowed_directories'])}")
    connection.execute(f"SET allowed_paths = {_literals(payload['allowed_paths'])}")
    search = ",".join(root for root in payload["search"] if "," not in root)
    connection.execute("SET file_search_path = '" + search.replace("'", "''") + "'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _literals(values: list[str]) -> str:
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"


def _load_extensions(connection: Any, statements: list[Any], payload: dict[str, Any]) -> None:
    """Load from the installed wheels what the SQL asks for by LOAD or INSTALL; nothing is downloaded."""
    for name in {_extension_of(statement) for statement in statements} & set(payload["extensions"]):
        connection.execute(f"INSTALL {_literals([payload['extensions'][name]])[1:-1]}")
        connection.execute(f"LOAD {name}")


def _extension_of(statement: Any) -> str:
    match = EXTENSION_STATEMENT.match(statement.query)
    return match[1].lower() if match else ""


def _run_one(connection: Any, statement: Any, payload: dict[str, Any], budget: RowBudget) -> dict[str, Any]:
    if _extension_of(statement) in payload["extensions"]:
        return {"status": "skipped", "message": "loaded from the installed wheel"}
    # A copy first: DuckDB consumes the statement.
    kind, text, wanted = statement.type.name, statement.query, set(statement.named_parameters)
    params = {name: value for name, value in payload["params"].items() if name in wanted}
    cursor = connection.execute(statement, params or None)
    columns = [column[0] for column in cursor.description or ()]
    counts = kind in CHANGE_KINDS and columns == ["Count"] and not RETURNING.search(text)
    if counts:
        count = cursor.fetchone()
        return without_rows(count[0] if count else 0, kind)
    if not columns or (columns == ["Success"] and kind != "SELECT"):
        return without_rows(0, kind)
    names = unique_names(columns)
    rows: list[dict[str, Any]] = []
    while chunk := cursor.fetchmany(FETCH_ROWS):
        rows += to_rows(names, chunk, budget)
    return with_rows(names, rows)
