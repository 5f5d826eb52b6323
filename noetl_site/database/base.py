"""The database backend: Django's own for Postgres, with the embedded server behind it when there is one.

A settings entry with `EMBEDDED` (a data folder) starts that folder's server before its first connection, so commands
that need no database start none. Without it this is Django's backend and nothing else.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, OperationalError
from psycopg import Error as PsycopgError
from psycopg.pq import TransactionStatus

from noetl_site import embedded
from noetl_site.database.prepared import PreparedStatements


class DatabaseWrapper(base.DatabaseWrapper):
    """One connection, opened when it is needed."""

    _prepared: tuple[Connection[Any], PreparedStatements] | None = None

    def ask_prepared(self, name: str, sql: str, parameters: Mapping[str, Any]) -> Callable[[], list[tuple[Any, ...]]]:
        """Run a statement that stays prepared under its name, with `%(name)s` for its parameters.

        Returns: what gives its rows. It is sent then, with the next statement or with the COMMIT, whatever comes first;
        outside a transaction at once. Raises, like what it returns: Django's errors, as the ORM does; also those of
        statements before it that were not sent yet.
        """
        self.close_if_health_check_failed()
        self.ensure_connection()
        with self.wrap_database_errors:
            connection = self.connection
            if self._prepared is None or self._prepared[0] is not connection:
                self._prepared = connection, PreparedStatements(connection)
            answer = self._prepared[1].ask(name, sql, parameters)
            if connection.autocommit:
                self._prepared[1].send()

        def take() -> list[tuple[Any, ...]]:
            with self.wrap_database_errors:
                return answer.take()

        return take

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor of Django's own; what was asked for before is sent before."""
        self._send()
        return super().create_cursor(name)

    def _send(self, *, and_commit: bool = False) -> None:
        if self._prepared is not None and self._prepared[0] is self.connection:
            with self.wrap_database_errors:
                if and_commit or self._prepared[1].has_asked:
                    self._prepared[1].send(and_commit=and_commit)

    def _commit(self) -> None:
        raw = self.connection
        prepared = self._prepared[1] if self._prepared is not None and self._prepared[0] is raw else None
        if prepared and (prepared.has_asked or raw.pgconn.transaction_status == TransactionStatus.INTRANS):
            # In one go with what is still to be sent; Django finds nothing left to commit.
            self._send(and_commit=True)
        super()._commit()  # type: ignore[misc]  # private, and so not in the stubs

    def _rollback(self) -> None:
        self._forget()
        super()._rollback()  # type: ignore[misc]  # the same

    def _savepoint_rollback(self, sid: str) -> None:
        # All of it came after the savepoint: setting that one has sent what was before.
        self._forget()
        super()._savepoint_rollback(sid)  # type: ignore[misc]  # the same

    def _forget(self) -> None:
        if self._prepared is not None:
            self._prepared[1].forget()

    def is_usable(self) -> bool:
        """Whether the connection still works; a server that has gone has closed it, and that can be seen from here.

        Asking the server, as Django does before the first statement of every request, costs as much as a statement.
        An idle connection has nothing to read: when there is something, it is the end, or news worth a question. So
        is an error before.
        """
        if self.connection is not None and not self.errors_occurred:
            with suppress(PsycopgError):
                waiting = select.poll()
                waiting.register(self.connection.fileno(), select.POLLIN)
                if not waiting.poll(0):
                    return True
        return bool(super().is_usable())

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection[Any]:
        """Open the connection; an embedded server that has died since is started again, once."""
        data_dir = self.settings_dict.get("EMBEDDED")
        if data_dir is None:
            return self._connect(conn_params)
        try:
            embedded.ensure_running(Path(data_dir))
            try:
                return self._connect(conn_params)
            except OperationalError:
                embedded.revive(Path(data_dir))
                return self._connect(conn_params)
        except embedded.EmbeddedError as error:
            # For those who wait for a database that is away.
            raise OperationalError(str(error)) from error

    def _connect(self, conn_params: dict[str, Any]) -> Connection[Any]:
        connection: Connection[Any] = super().get_new_connection(conn_params)
        return connection
