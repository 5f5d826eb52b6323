"""The storage `postgres`: rows into a table, or a statement for each of them, in one transaction.

Rows travel as one JSON text, which is bound: no value is part of a statement, and each takes the type of its column.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import psycopg

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.storage import SaveContext, Storage
from executors.actions.save.tables import NEEDS, TAKES, batches, bound_statement, keys_of, told
from executors.auth import bound_credential
from executors.contract import ActionFailed
from executors.stores.postgres_effects import Effects
from executors.stores.postgres_pool import Pool
from executors.stores.postgres_session import Session, StatementFailed
from executors.stores.postgres_target import (
    DSN_FIELDS,
    FIELDS,
    ForbiddenTarget,
    Target,
    forbidden_targets,
    target_of,
)
from executors.stores.rows import Row, quoted, quoted_table

CONNECTING: Final = frozenset((*(name for names in FIELDS.values() for name in names), *DSN_FIELDS))
"""In `spec`: where it is, beside the credential's fields or instead of them."""
ONCE: Final = "exactly_once"
# The original's playbooks name them; there is one of each here.
UNREAD: Final = frozenset(("dialect", "driver"))
NO_KEY: Final = "42P10"
"""What the server says when `ON CONFLICT` names columns that no unique index has."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What one save is to do, checked as far as that can be without the database."""

    key: list[str]
    batches: list[list[Row]]
    statement: str = ""
    values: Sequence[Sequence[Any]] = ()

    @property
    def is_empty(self) -> bool:
        return not self.batches and not self.values


class PostgresStorage(Storage):
    """Writes into a Postgres database that a credential, or `spec`, leads to."""

    name: ClassVar[str] = "postgres"
    takes: ClassVar[frozenset[str]] = TAKES | {"auth", "use_auth"}
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("auth", "spec"), NEEDS)

    def __init__(self, forbidden: Iterable[ForbiddenTarget] = ()) -> None:
        self._forbidden = tuple(forbidden)
        self._pool = Pool()

    @classmethod
    def build(cls, settings: Any) -> Self:
        """The platform's own databases are forbidden to saves."""
        return cls(forbidden_targets(settings))

    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        """`{saved: "postgres", table, task_result: {status, row_count}}`; of a statement without `table`."""
        work = _work(rows, spec)
        once = _is_once(spec)
        target = _target(spec, context)
        if work.is_empty and spec.mode != "overwrite":
            return told(self.name, spec, 0)
        with self._pool.lend(target, self._forbidden, context.deadline, context.lent.cancelled) as session:
            # The other modes write the same again.
            effect = context.effect_key if once and spec.mode == "append" else None
            return _Transaction(session, target, spec, work).run(effect)

    def close(self) -> None:
        """Close the connections that wait for a job."""
        self._pool.close()


def _work(rows: Sequence[Any], spec: SaveArguments) -> _Work:
    if spec.statement is not None:
        statement, values = bound_statement(spec)
        return _Work([], [], statement, values)
    quoted_table(spec.table or "")
    return _Work(keys_of(spec), batches(rows, spec))


def _is_once(spec: SaveArguments) -> bool:
    """Whether a repeated attempt is to write nothing. Raises: `ActionFailed`."""
    if unknown := sorted(spec.spec.keys() - CONNECTING - UNREAD - {ONCE}):
        raise ActionFailed("arguments_invalid", f"spec: postgres takes no {unknown[0]!r}")
    once = spec.spec.get(ONCE, True)
    if not isinstance(once, bool):
        raise ActionFailed("arguments_invalid", f"spec: {ONCE} is true or false")
    return once


def _target(spec: SaveArguments, context: SaveContext) -> Target:
    own = {name: value for name, value in spec.spec.items() if name in CONNECTING}
    bound = bound_credential(spec.auth, spec.use_auth, context.lent)
    target = target_of(bound.credential if bound else None, own)
    context.lent.keep_secret(target.secrets.secret_texts())
    return target


class _Transaction:
    """One save on one open connection: all of it, or nothing."""

    def __init__(self, session: Session, target: Target, spec: SaveArguments, work: _Work) -> None:
        self._session = session
        self._target = target
        self._spec = spec
        self._work = work

    def run(self, effect: str | None) -> dict[str, Any]:
        """What it came to, or what an attempt before came to that noted it under `effect`. Raises: `ActionFailed`."""
        effects = None
        if effect is not None:
            with self._failing(noting=True):
                effects = Effects(self._session, effect)
        with self._failing():
            # Two that overwrite wait for each other, and the second must see what the first has done.
            self._session.run("BEGIN ISOLATION LEVEL READ COMMITTED")
        if effects is not None:
            with self._failing(noting=True):
                if (before := effects.claim()) is not None:
                    self._session.run("ROLLBACK")
                    return dict(before)
        with self._failing():
            result = told(PostgresStorage.name, self._spec, self._write())
            if effects is not None:
                effects.keep(result)
            if self._session.run("COMMIT")["message"] != "COMMIT":
                raise StatementFailed("the transaction was rolled back")
        return result

    def _write(self) -> int:
        """Returns: how many rows it touched."""
        if self._spec.statement is not None:
            return self._session.run_many(self._work.statement, self._work.values)
        table = quoted_table(self._spec.table or "")
        if self._spec.mode == "overwrite":
            self._session.run(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
            self._session.run(f"DELETE FROM {table}")  # noqa: S608  (quoted)
        return sum(self._write_batch(table, batch) for batch in self._work.batches)

    def _write_batch(self, table: str, batch: Sequence[Row]) -> int:
        statement = _statement(table, self._spec.mode, [*batch[0]], self._work.key)
        # JSON as it is written, and not jsonb: a column of the type json keeps its text.
        summary = self._session.run(statement, [json.dumps(batch, ensure_ascii=False)])
        return int(summary["row_count"])

    @contextlib.contextmanager
    def _failing(self, *, noting: bool = False) -> Iterator[None]:
        """Turn what can go wrong into a failure without a secret in it."""
        try:
            yield
        except StatementFailed as error:
            message = self._told(error)
            if noting:
                message = (
                    f"noetl_effects: {message} (it keeps repeated attempts from writing twice: have the table made, or"
                    f" say spec: {{{ONCE}: false}})"
                )
            raise ActionFailed("target_failed", self._target.mask(f"postgres: {message}")) from None
        except (psycopg.Error, TypeError, ValueError) as error:
            # Values that cannot be written as SQL has them.
            raise ActionFailed("target_failed", self._target.mask(f"postgres: {error}")) from None

    def _told(self, error: StatementFailed) -> str:
        if error.sqlstate == NO_KEY and self._work.key:
            return f"the mode upsert needs a primary or unique key of {', '.join(self._work.key)}"
        return str(error) if error.number is None else f"params: the entry at index {error.number}: {error}"


def _statement(table: str, mode: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """The one statement that writes a batch, with the rows as `$1`."""
    names = ", ".join(map(quoted, columns))
    rows = f"json_populate_recordset(NULL::{table}, $1::json) AS b"
    rest = [quoted(name) for name in columns if name not in key]
    if mode == "update":
        if not rest:
            raise ActionFailed("arguments_invalid", "the mode update needs a column beside the key")
        sets = ", ".join(f"{name} = b.{name}" for name in rest)
        found = " AND ".join(f"t.{name} = b.{name}" for name in map(quoted, key))
        return f"UPDATE {table} AS t SET {sets} FROM {rows} WHERE {found}"  # noqa: S608  (quoted)
    text = f"INSERT INTO {table} ({names}) SELECT {names} FROM {rows}"  # noqa: S608  (quoted)
    if mode != "upsert":
        return text
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in rest)
    return f"{text} ON CONFLICT ({', '.join(map(quoted, key))}) DO " + (f"UPDATE SET {sets}" if sets else "NOTHING")
