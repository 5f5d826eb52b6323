"""Rule R14: what the sessions of a server are bounded by, and who speaks up when its Postgres may lose results."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks
from django.db import connection

from executors.api import Component, find_lossy_settings
from executors.durability import MARK
from executors.worker.presence import tell_of_lossy_settings
from noetl_site.environment import SESSION_TIMEOUTS

pytestmark = pytest.mark.usefixtures("fresh_db")


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize("name", list(SESSION_TIMEOUTS))
def test_a_session_of_a_server_is_bounded(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        [shown] = cursor.fetchone()
        cursor.execute(
            "SELECT %s::interval = %s::interval, %s::interval > '0 s'", [shown, SESSION_TIMEOUTS[name], shown]
        )
        assert cursor.fetchone() == (True, True)


def test_the_servers_of_tests_are_let_through_by_their_mark_alone(caplog: pytest.LogCaptureFixture) -> None:
    server = Component(name="server-1", component_type="server_api")
    assert find_lossy_settings() == []
    tell_of_lossy_settings(server)
    assert caplog.text == "" and run_checks(databases=["default"], tags=["database"]) == []
    execute(f"SET {MARK} = off")
    assert find_lossy_settings() == ["fsync", "full_page_writes"]
    tell_of_lossy_settings(server)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", f"server-1 works on Postgres with {name} = off: a crash loses accepted results")
        for name in ("fsync", "full_page_writes")
    ]
    assert {message.id for message in run_checks(databases=["default"], tags=["database"])} == {"noetl_site.E001"}


def test_a_session_that_does_not_wait_for_its_commits_is_found() -> None:
    execute(f"SET {MARK} = off")
    execute("SET synchronous_commit = off")
    assert "synchronous_commit" in find_lossy_settings()
