"""The database backend: Django's own for Postgres, with the embedded server behind it when there is one.

A settings entry with `EMBEDDED` (a data folder) starts that folder's server before its first connection, so commands
that need no database start none. Without it this is Django's backend and nothing else.
"""

from __future__ import annotations

import select
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, OperationalError
from psycopg import Error as PsycopgError

from noetl_site import embedded
from noetl_site.database.prepared import PreparedStatements


class DatabaseWrapper(base.DatabaseWrapper):
    """One connection, opened when it is needed."""

    _prepared: tuple[Connection[Any], PreparedStatements] | None = None

    def run_prepared(self, name: str, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement that stays prepared under its name, with `%(name)s` for its parameters, and give its rows.

        Raises: Django's errors, as the ORM does.
        """
        self.close_if_health_check_failed()
        self.ensure_connection()
        with self.wrap_database_errors:
            connection = self.connection
            if self._prepared is None or self._prepared[0] is not connection:
                self._prepared = connection, PreparedStatements(connection)
            return self._prepared[1].run(name, sql, parameters)

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
