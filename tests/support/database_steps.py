"""Steps of the `postgres` kind on the tests' own server, without a platform around them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import settings
from psycopg import sql

from executors.actions.postgres import PostgresAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from noetl_site import embedded

PASSWORD: Final = "s3cr3t p%w"
# Of this worker alone: the tests share tables.
ROLE: Final = f"step_tester_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


def step_socket() -> str:
    """The socket folder of the tests' own server, with a role and a database that belong to such steps."""
    running = embedded.ensure_running(settings.NOETL_DATA_DIR)
    with embedded.connect(running.folder) as connection:
        password = sql.Literal(PASSWORD)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), password))
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(ROLE)))
    return str(running.folder.postgres_socket)


class Step:
    """Runs steps with one credential, `pg`, whose `fields` a test may change; files lie below `data_dir`."""

    def __init__(self, host: str, data_dir: Path) -> None:
        self.fields: dict[str, str] = {"db_host": host, "db_user": ROLE, "db_password": PASSWORD, "db_name": ROLE}
        self.data_dir = data_dir
        self.inputs: dict[str, Any] = {}
        self.action = PostgresAction()
        self.cancelled = threading.Event()
        self.asked: list[str] = []
        """The names of the credentials that were asked for."""

    @property
    def files(self) -> Path:
        return self.data_dir / "files" / "e1"

    def run(self, text: Any, *, timeout: float = 20, node: str = "s", **arguments: Any) -> Any:
        given = {"query": text, "auth": "pg", **arguments}
        given = {name: value for name, value in given.items() if value is not None}
        node_id = f"e1:{node}"
        request = ActionRequest("postgres", given, self.inputs, "e1", node_id, "s", 1, node_id, timeout)
        return self.action.run(request, Lent(self.data_dir, self.cancelled, self._credential))

    def fails(self, text: Any, **arguments: Any) -> ActionFailed:
        with pytest.raises(ActionFailed) as caught:
            self.run(text, **arguments)
        return caught.value

    def value(self, text: Any, **arguments: Any) -> Any:
        """The first cell of the first row of the first statement."""
        return next(iter(self.run(text, **arguments)["command_0"]["rows"][0].values()))

    def _credential(self, name: str) -> Credential:
        self.asked.append(name)
        return Credential(name, "postgres", self.fields)


def peak_of(work: Callable[[], Any]) -> int:
    """By how many bytes this process grows at most meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")

    def told(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 1024

    before = told("VmRSS")
    work()
    return told("VmHWM") - before
