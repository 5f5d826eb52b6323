"""Runs one statement on an open DuckDB connection and makes its result: rows, a count, or a Parquet file of rows.

Knows cursors and result shapes; whether a statement may run was decided before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from executors.sandbox.duckdb_rules import can_be_a_table
from executors.sandbox.duckdb_tokens import Statement, quoted_text
from executors.sandbox.rows import RowBudget, to_rows, unique_names, with_rows, without_rows
from executors.sandbox.sanitise import OutputTooLarge

FETCH_ROWS: Final = 1000
CHANGE_KINDS: Final = {"INSERT", "UPDATE", "DELETE", "CREATE", "COPY", "MERGE_INTO"}
RETURNING: Final = re.compile(r"\breturning\b", re.IGNORECASE)


class Runner:
    """Runs the statements of one step. `folder` is where files of rows go, `shown` the same as steps name it."""

    def __init__(
        self, connection: Any, params: Mapping[str, Any], budget: RowBudget, *, folder: str, shown: str, to_file: bool
    ) -> None:
        self._connection = connection
        self._params = params
        self._budget = budget
        self._folder = folder
        self._shown = shown
        self._to_file = to_file
        self._in_transaction = False
        """The step's own; DuckDB cannot be asked without ending it."""

    def run(self, name: str, statement: Statement, parsed: Sequence[Any]) -> dict[str, Any]:
        """The result of one statement, which DuckDB may have parsed into several.

        Raises: `duckdb.Error`, `OutputTooLarge`, and `ValueError`, `OverflowError`, `RuntimeError` for values that
        cannot be bound or read.
        """
        is_query = parsed[-1].type.name == "SELECT" and can_be_a_table(statement)
        if is_query and self._to_file:
            return self._write(name, statement)
        if not is_query or self._in_transaction:
            result = self._run_parsed(statement, parsed)
            if len(parsed) == 1 and parsed[0].type.name == "TRANSACTION":
                self._in_transaction = statement.head in ("begin", "start")
            return result
        # A transaction, so that what a query did (a server's function) is undone when it has to run again.
        budget = self._budget.copy()
        self._connection.execute("BEGIN")
        try:
            result = self._run_parsed(statement, parsed)
        except OutputTooLarge:
            self._connection.execute("ROLLBACK")
            self._budget = budget
            return self._write(name, statement)
        except BaseException:
            # Whatever it was, half of the statement must not count.
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return result

    def _run_parsed(self, statement: Statement, parsed: Sequence[Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for part in parsed:
            # A copy first: DuckDB consumes what it parsed.
            kind = part.type.name
            cursor = self._connection.execute(part, self._bound(part))
            if kind != "TRANSACTION" or not result:
                result = self._result(kind, statement.text, cursor)
        return result

    def _bound(self, part: Any) -> dict[str, Any] | None:
        wanted = set(part.named_parameters)
        return {name: value for name, value in self._params.items() if name in wanted} or None

    def _result(self, kind: str, text: str, cursor: Any) -> dict[str, Any]:
        columns = [column[0] for column in cursor.description or ()]
        if kind in CHANGE_KINDS and columns == ["Count"] and not RETURNING.search(text):
            count = cursor.fetchone()
            return without_rows(count[0] if count else 0, kind)
        if not columns or (columns == ["Success"] and kind != "SELECT"):
            return without_rows(0, kind)
        names = unique_names(columns)
        rows: list[dict[str, Any]] = []
        while chunk := cursor.fetchmany(FETCH_ROWS):
            rows += to_rows(names, chunk, self._budget)
        return with_rows(names, rows)

    def _write(self, name: str, statement: Statement) -> dict[str, Any]:
        """The rows of a query as a Parquet file: `{status, path, row_count, columns, bytes}`."""
        os.makedirs(self._folder, exist_ok=True)
        path = os.path.join(self._folder, f"{name}.parquet")
        # On lines of its own: the query may end in a comment.
        copy = f"COPY (\n{statement.text}\n) TO {quoted_text(path)} (FORMAT parquet)"
        count = 0
        for part in self._connection.extract_statements(copy):
            kind = part.type.name
            cursor = self._connection.execute(part, self._bound(part))
            if kind == "COPY":
                count = cursor.fetchone()[0]
        columns = self._connection.execute(f"FROM read_parquet({quoted_text(path)}) LIMIT 0").description
        return {
            "status": "success",
            "path": f"{self._shown}/{name}.parquet",
            "row_count": count,
            "columns": [column[0] for column in columns],
            "bytes": os.path.getsize(path),
        }
