"""The database backend: Django's own for Postgres, with the embedded server behind it when there is one.

A settings entry with `EMBEDDED` (a data folder) starts that folder's server before its first connection, so commands
that need no database start none. Without it this is Django's backend and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection, OperationalError

from noetl_site import embedded
from noetl_site.database.prepared import PreparedStatements


class DatabaseWrapper(base.DatabaseWrapper):
    """One connection, opened when it is needed."""

    _prepared: tuple[Connection[Any], PreparedStatements] | None = None

    def run_prepared(self, name: str, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement that stays prepared under its name, with `%(name)s` for its parameters, and give its rows.

        Raises: Django's errors, as the ORM does.
        """
        self.ensure_connection()
        with self.wrap_database_errors:
            connection = self.connection
            if self._prepared is None or self._prepared[0] is not connection:
                self._prepared = connection, PreparedStatements(connection)
            return self._prepared[1].run(name, sql, parameters)

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
