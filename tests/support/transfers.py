"""Steps of the `transfer` kind between real stores, without a platform around them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import psycopg
import pytest

from executors.actions.transfer import TransferAction
from executors.actions.transfer.opening import Leave
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from executors.stores.http_calls import CheckedCalls
from executors.stores.http_store import MAX_PAGE_BYTES
from executors.stores.postgres_target import ForbiddenTarget
from tests.support.database_steps import PASSWORD, ROLE

LOOPBACK: Final = ("127.0.0.0/8",)


class Transfers:
    """Runs steps of one execution, `e1`; `credentials` are by name, `pg` is the tests' own server."""

    def __init__(self, host: str, data_dir: Path, forbidden: Sequence[ForbiddenTarget] = ()) -> None:
        self.data_dir = data_dir
        self.host = host
        fields = {"db_host": host, "db_user": ROLE, "db_password": PASSWORD, "db_name": ROLE}
        self.credentials: dict[str, Credential] = {"pg": Credential("pg", "postgres", fields)}
        self.cancelled = threading.Event()
        self.action = TransferAction(Leave(forbidden, (), CheckedCalls(LOOPBACK, MAX_PAGE_BYTES)))
        self.files.mkdir(parents=True)
        (data_dir / "databases").mkdir()
        (data_dir / "duckdb").mkdir()

    @property
    def files(self) -> Path:
        """The execution's folder."""
        return self.data_dir / "files" / "e1"

    def run(
        self,
        source: Mapping[str, Any],
        target: Mapping[str, Any],
        *,
        node: str = "s",
        timeout: float = 60,
        auth: Any = None,
        **more: Any,
    ) -> Any:
        """One attempt. Both sides use the credential `pg` when they are Postgres, unless `auth` says otherwise."""
        named = {"reading": source, "writing": target}
        own = auth or {side: "pg" for side, place in named.items() if place["type"] == "postgres"}
        given = {"source": source, "target": target, **more, **({"auth": own} if own else {})}
        request = ActionRequest("transfer", given, {}, "e1", f"e1:{node}", "s", 1, f"e1:{node}", timeout)
        return self.action.run(request, Lent(self.data_dir, self.cancelled, self.credentials.__getitem__))

    def fails(self, *places: Mapping[str, Any], **more: Any) -> ActionFailed:
        """The failure of an attempt."""
        with pytest.raises(ActionFailed) as caught:
            self.run(*places, **more)
        return caught.value

    @contextmanager
    def postgres(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the database of `pg`, which commits at the end."""
        with psycopg.connect(host=self.host, user=ROLE, password=PASSWORD, dbname=ROLE) as connection:
            yield connection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query in `pg`."""
        with self.postgres() as connection:
            return connection.execute(query.encode()).fetchall()

    @contextmanager
    def duckdb(self, name: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """The execution's own DuckDB file, or one of `databases/`."""
        path = self.data_dir / "duckdb" / "e1.duckdb" if name is None else self.data_dir / "databases" / name
        with duckdb.connect(str(path)) as connection:
            yield connection
