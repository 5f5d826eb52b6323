"""Jobs of the kind `save` into real stores, without a platform around them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import psycopg
import pytest

from executors.actions.save import SaveAction
from executors.actions.save.duckdb import DuckDbStorage
from executors.actions.save.postgres import PostgresStorage
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from executors.stores.postgres_target import ForbiddenTarget
from tests.support.database_steps import PASSWORD, ROLE

LOOP: Final = """
apiVersion: noetl.io/v1
kind: Playbook
name: thousand
path: tests/thousand
workflow:
  - step: start
    type: python
    code: "def main(): ..."
    loop:
      in: "{{ range(1000) | list }}"
      iterator: n
      save: {on_error: fail, %s}
    next: end
  - {step: end, result: "{{ steps.start.meta }}"}
"""
"""A loop that saves each of a thousand items `n`; `%s` is how."""


class Saves:
    """Saves of one execution, `e1`. `pg` is a credential of the tests' own server; `storage` is where they go."""

    def __init__(
        self, storage: str, host: str, data_dir: Path, *, role: str = ROLE, forbidden: Sequence[ForbiddenTarget] = ()
    ) -> None:
        self.storage, self.data_dir = storage, data_dir
        self.fields = {"db_host": host, "db_user": role, "db_password": PASSWORD, "db_name": ROLE}
        self.cancelled = threading.Event()
        self.action = SaveAction([PostgresStorage(forbidden), DuckDbStorage()])
        for folder in ("databases", "duckdb"):
            (data_dir / folder).mkdir(exist_ok=True)

    def run(self, data: Any = None, *, node: str = "s#save", timeout: float = 30, **arguments: Any) -> Any:
        """One attempt of the save at a node."""
        auth = {"auth": "pg"} if self.storage == "postgres" else {}
        given = {"storage": self.storage, "data": data, **auth, **arguments}
        given = {name: value for name, value in given.items() if value is not None}
        request = ActionRequest("save", given, {}, "e1", f"e1:{node}", "s", 1, f"e1:{node}", timeout)
        return self.action.run(request, Lent(self.data_dir, self.cancelled, self._credential))

    def fails(self, data: Any = None, **arguments: Any) -> ActionFailed:
        """The failure of an attempt."""
        with pytest.raises(ActionFailed) as caught:
            self.run(data, **arguments)
        return caught.value

    @contextmanager
    def postgres(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the database of `pg`, which commits at the end."""
        host = self.fields["db_host"]
        with psycopg.connect(host=host, user=ROLE, password=PASSWORD, dbname=ROLE) as connection:
            yield connection

    @contextmanager
    def duckdb(self, name: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """The execution's own DuckDB file, or one of `databases/`."""
        path = self.data_dir / "duckdb" / "e1.duckdb" if name is None else self.data_dir / "databases" / name
        with duckdb.connect(str(path)) as connection:
            yield connection

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement in the store that is saved into."""
        if self.storage == "duckdb":
            with self.duckdb() as file:
                return list(file.execute(statement).fetchall())
        with self.postgres() as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _credential(self, name: str) -> Credential:
        return Credential(name, "postgres", self.fields)


def written(storage: str, count: int, table: str | None = "t") -> dict[str, Any]:
    """What a save tells that wrote so many rows."""
    named = {} if table is None else {"table": table}
    return {"saved": storage, **named, "task_result": {"status": "success", "row_count": count}}


def all_at_once(attempt: Callable[[], Any], meanwhile: Callable[[], object] = lambda: None) -> list[Any]:
    """What comes of four attempts in threads of their own; `meanwhile` is done when they have begun."""
    ready, told = threading.Barrier(5), list[Any]()

    def run() -> None:
        ready.wait(10)
        try:
            told.append(attempt())
        except ActionFailed as failure:
            told.append(failure)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait(10)
    meanwhile()
    for thread in threads:
        thread.join(30)
    return told
