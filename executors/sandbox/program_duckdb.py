"""Runs SQL on one DuckDB file, in the child: opens it, attaches, confines, runs, closes it.

Knows the order of things; DuckDB's settings, the rules for statements and the shape of results have files of their
own. Which paths and databases a step may use was decided by the caller.
Payload: `database`, `statements` (list of SQL texts), `params`, `goes_on` (after an error, too), `files` (the step's
own folder), `rows_folder` (a name in it), `rows_to_file`, `directories` and `paths` (that may be read), `search`,
`remote` (beginnings of addresses), `extensions` (name -> file of a wheel), `secrets` (`{name, type, fields}`), `attach`
(`{alias, secret, options, read_only}`), `sqlite` (`{alias, path, read_only}`), `tables` (name -> rows, or a file of
them), `ports`, `temp_directory`, `temp_size`, `memory_limit`, `threads`, `lock_wait_seconds`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import time
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# Not the `duckdb` package: importing that one starts a thread, and a zygote must not have any.
import _duckdb as duckdb

from executors.sandbox.duckdb_connection import (
    check_definitions,
    fence_in,
    is_lock,
    open_database,
    place_of,
    prepare,
)
from executors.sandbox.duckdb_results import Runner
from executors.sandbox.duckdb_rules import Refused, check, skips
from executors.sandbox.duckdb_tokens import Statement, TextRefused, split
from executors.sandbox.frames import failure, success
from executors.sandbox.printing import MARK, Level
from executors.sandbox.rows import RowBudget
from executors.sandbox.sanitise import OutputInvalid, OutputTooLarge, sanitise
from executors.sandbox.sparing import Sparing, told_seconds

POSSIBLE: Final = frozenset(
    {
        *("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE_INTO", "CREATE", "DROP", "ALTER", "EXPLAIN", "PREPARE"),
        *("EXECUTE", "TRANSACTION", "VACUUM", "ANALYZE", "CALL", "COPY", "COPY_DATABASE", "ATTACH", "DETACH"),
        *("EXPORT", "SET", "VARIABLE_SET", "RELATION"),
    }
)
"""Kinds of statements that a step may run, in DuckDB's words."""
WRITES_FILES: Final = {"COPY": "copy", "EXPORT": "export", "ATTACH": "attach"}
"""Kinds whose rules hang on the first word that the lexer saw."""


@dataclass(slots=True)
class _Step:
    """A statement as it is to run, or why it is not: `skipped`."""

    statement: Statement
    skipped: str | None = None
    parsed: list[Any] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What sort of statement it is, in DuckDB's words. To be asked before it runs: that uses up what was parsed."""
        return str(self.parsed[-1].type.name) if self.parsed else self.statement.head.upper()


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
    # Before DuckDB starts threads, which inherit it.
    fence_in(payload)
    try:
        connection = open_database(payload)
    except duckdb.Error as error:
        return failure("database_locked" if is_lock(error) else "sql_error", f"cannot open the database: {error}")
    try:
        return _run_all(connection, payload, output_bytes)
    finally:
        connection.close()


def _run_all(connection: Any, payload: dict[str, Any], output_bytes: int) -> dict[str, Any]:
    try:
        prepare(connection, payload)
    except duckdb.Error as error:
        return failure("attach_failed", str(error))
    try:
        # All of them before the first one runs: a step with a statement that may not run does nothing.
        steps = [_read(connection, statement, payload) for text in payload["statements"] for statement in split(text)]
    except (TextRefused, Refused) as error:
        return failure("sql_refused", str(error))
    except duckdb.Error as error:
        return failure("sql_error", str(error))
    runner = Runner(
        connection,
        payload["params"],
        RowBudget(max_bytes=output_bytes),
        folder=os.path.join(payload["files"], payload["rows_folder"]),
        shown=payload["rows_folder"],
        to_file=payload["rows_to_file"],
    )
    told = Sparing(_log)
    try:
        return _run_steps(connection, runner, steps, told, goes_on=payload["goes_on"], output_bytes=output_bytes)
    finally:
        told.end()


def _read(connection: Any, statement: Statement, payload: dict[str, Any]) -> _Step:
    """Raises: `Refused`, `duckdb.Error`."""
    place = place_of(payload)
    skipped = skips(statement, place)
    if skipped is not None:
        return _Step(statement, skipped)
    statement = check(statement, place)
    parsed = connection.extract_statements(statement.text)
    for kind in (part.type.name for part in parsed):
        if kind not in POSSIBLE or WRITES_FILES.get(kind, statement.head) != statement.head:
            # COPY within a statement of another kind has no way past the rules.
            raise Refused(f"a statement of the kind {kind} is not possible in a step")
    return _Step(statement, None, parsed)


def _run_steps(
    connection: Any, runner: Runner, steps: list[_Step], told: Sparing, *, goes_on: bool, output_bytes: int
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    failures: list[str] = []
    for index, step in enumerate(steps):
        name = f"command_{index}"
        if step.skipped is not None:
            results[name] = {"status": "skipped", "message": step.skipped}
            told.tell(f"{name} {step.kind}: skipped")
            continue
        try:
            with _telling(told, f"{name} {step.kind}", results, name):
                results[name] = sanitise(runner.run(name, step.statement, step.parsed), max_bytes=output_bytes)
                if step.statement.head == "attach":
                    check_definitions(connection)
        except OutputTooLarge as error:
            return failure(error.code, f"{name}: {error}")
        except OutputInvalid as error:
            return failure(error.code, f"{name}: {error}", data=results)
        except (Refused, TextRefused) as error:
            return failure("sql_refused", f"{name}: {error}", data=results)
        except (duckdb.Error, ValueError, OverflowError, RuntimeError) as error:
            results[name] = {"status": "error", "message": str(error)}
            failures.append(f"{name}: {error}")
            if not goes_on:
                break
    return failure("sql_error", "; ".join(failures), data=results) if failures else success(results)


@contextlib.contextmanager
def _telling(told: Sparing, what: str, results: Mapping[str, Any], name: str) -> Iterator[None]:
    """A line in the log for a statement, whose result the block leaves: nothing of its text or its values."""
    started = time.monotonic()
    try:
        yield
    except BaseException:
        # Whatever it was, it is told of elsewhere.
        told.tell(f"{what}: failed after {told_seconds(time.monotonic() - started)}", "warning")
        raise
    result = results[name]
    written = f", {result['bytes']:,} bytes" if "bytes" in result else ""
    taken = told_seconds(time.monotonic() - started)
    told.tell(f"{what}: {result.get('row_count', 0):,} rows{written} in {taken}")


def _log(text: str, level: Level) -> None:
    sys.stdout.write(f"{MARK}{level}{MARK}{text}\n")
    sys.stdout.flush()
