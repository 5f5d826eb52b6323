"""Exactly-once effects: a row in the target's own database says which step has been done, and what came of it.

It is written in the transaction of the step's statements, so one is there if and only if the others are. Knows one
table; nothing of steps.
"""

from __future__ import annotations

import json
from typing import Any, Final

from executors.sandbox.rows import RowBudget
from executors.stores.postgres_session import KeptRows, Session

LOCK: Final = 0x6E6F65746C
"""Of the advisory lock under which the table is made."""
CREATE: Final = """
    CREATE TABLE IF NOT EXISTS noetl_effects (
        key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), outcome json
    )
"""
FIND: Final = """
    SELECT quote_ident(nspname) AS place
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
    WHERE c.oid = pg_catalog.to_regclass('noetl_effects')
"""


class Effects:
    """The one row of a step in `noetl_effects` of the database that a session is connected to."""

    def __init__(self, session: Session, key: str) -> None:
        """Find the table, or make it. No transaction may be open. Raises: as `Session.run`."""
        self._session = session
        self._key = key
        # Named with its schema: a statement of the step may change the search path.
        self._table = f"{self._find() or self._make()}.noetl_effects"

    def claim(self) -> Any:
        """Write the row, in the transaction that is open. Returns: None, or the outcome of whoever was here before.

        Another attempt that is at it in this moment is waited for.
        """
        written = f"INSERT INTO {self._table} (key) VALUES ($1) ON CONFLICT DO NOTHING RETURNING key"  # noqa: S608  (quote_ident)
        if self._rows(written, [self._key]):
            return None
        told = self._rows(f"SELECT outcome FROM {self._table} WHERE key = $1", [self._key])  # noqa: S608  (quote_ident)
        return (told[0]["outcome"] if told else None) or {"status": "skipped"}

    def keep(self, outcome: Any) -> None:
        """Put the outcome, which must be JSON, into the row that `claim` wrote."""
        update = f"UPDATE {self._table} SET outcome = $2 WHERE key = $1"  # noqa: S608  (quote_ident)
        self._session.run(update, [self._key, json.dumps(outcome, ensure_ascii=False)])

    def _find(self) -> str:
        found = self._rows(FIND)
        return str(found[0]["place"]) if found else ""

    def _make(self) -> str:
        self._session.run("BEGIN")
        # Two steps that make it at once would meet in the catalog's unique index.
        self._session.run("SELECT pg_advisory_xact_lock($1)", [LOCK])
        self._session.run(CREATE)
        self._session.run("COMMIT")
        return self._find()

    def _rows(self, statement: str, values: list[Any] | None = None) -> list[dict[str, Any]]:
        rows = KeptRows(RowBudget())
        self._session.run(statement, values, rows)
        return list(rows.result()["rows"])
