"""Databases for tests: one template with all tables per run, one copy per pytest-xdist worker.

Knows the embedded server and Django's connections; no test. Tables are never emptied: a copy that was written to is
replaced by a new copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from psycopg import sql

from noetl_site import embedded
from noetl_site.embedded.folder import locked
from noetl_site.embedded.postgres import APPLICATION, OWNER
from tests.support.seeding import hurry

TEMPLATE: Final = "noetl_template"


def data_dir() -> Path:
    """The data folder of this test run."""
    return Path(settings.NOETL_DATA_DIR)


def prepare_template() -> None:
    """Make the template once per run; other workers wait for it."""
    folder = embedded.ensure_running(data_dir()).folder
    with locked(folder.root / "template.lock"):
        if _exists(TEMPLATE):
            return
        hurry(folder)
        # Under another name until all tables are there: what has the right name is complete.
        unfinished = f"{TEMPLATE}_new"
        _execute("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=unfinished)
        _execute("CREATE DATABASE {name} OWNER {owner}", name=unfinished, owner=OWNER)
        use_database(unfinished)
        call_command("migrate", verbosity=0)
        close_connections()
        _execute("ALTER DATABASE {name} RENAME TO {template}", name=unfinished, template=TEMPLATE)


def recreate(name: str) -> None:
    """Put a new copy of the template in the place of the database; every connection to it is ended."""
    close_connections()
    _execute("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=name)
    _execute("CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}", name=name, template=TEMPLATE, owner=OWNER)
    _execute("GRANT CONNECT ON DATABASE {name} TO {role}", name=name, role=APPLICATION)


def use_database(name: str) -> None:
    """Let every connection of this process go to the database."""
    close_connections()
    for alias in connections:
        connections[alias].settings_dict["NAME"] = name


def close_connections() -> None:
    """Close this thread's connections."""
    connections.close_all()


def _exists(name: str) -> bool:
    folder = embedded.open_folder(data_dir())
    with embedded.connect(folder) as connection:
        return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


def _execute(statement: str, **names: str) -> None:
    folder = embedded.open_folder(data_dir())
    identifiers = {key: sql.Identifier(name) for key, name in names.items()}
    with embedded.connect(folder) as connection:
        connection.execute(sql.SQL(statement).format(**identifiers))
