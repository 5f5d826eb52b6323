"""The queries of docs/operations.md run on the tables as they are, and find what they are there for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from executors.worker.presence import Component, announce, say_goodbye
from tests.integration.test_sweeping import lose_jobs, sweep
from tests.support.books import FAN, lease, start

pytestmark = pytest.mark.usefixtures("fresh_db")

SECTION = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().partition("## What to watch")[2]
QUERIES = dict(re.findall(r"^#### ([^\n]+)\n\n```sql\n(.+?);\n```$", SECTION, re.MULTILINE | re.DOTALL))


def repaired() -> None:
    lose_jobs()
    sweep()


def silent() -> None:
    gone = Component(name="gone", component_type="worker_pool")
    announce(gone)
    say_goodbye(gone)


SEEDED: dict[str, str | Callable[[], None]] = {
    "Ready jobs": "SELECT 1",
    "Lost leases": "UPDATE lease_history SET ending = 'lost', ended_at = clock_now()",
    "Dead jobs": "UPDATE queue SET status = 'dead' WHERE status = 'queued'",
    "Put-off evaluations": "UPDATE execution SET needs_evaluation_since = clock_now() - interval '1 hour'",
    "Failed evaluations": "UPDATE execution SET needs_evaluation_since = clock_now(), evaluation_failures = 3",
    "Repaired executions": repaired,
    "Parked keys": "UPDATE queue SET parked_by = 'key:x', limit_keys = '{key:x}', limit_maxs = '{1}'"
    " WHERE status = 'queued'",
    "Silent workers": silent,
    "Cut logs": "INSERT INTO action_log_total SELECT id, 0, 0, 7 FROM execution",
    "Tables": "SELECT 1",
}


def ask(query: str) -> list[Any]:
    with connection.cursor() as cursor:
        # As `psql` does, which knows nothing of the platform's search path.
        cursor.execute("SET search_path = public")
        cursor.execute(query)
        found: list[Any] = cursor.fetchall()
        cursor.execute("RESET search_path")
    return found


def test_every_row_of_the_table_has_its_query_and_every_query_a_row() -> None:
    anchors = re.findall(r"^\| \[[^]]+\]\(#([a-z-]+)\) \|", SECTION, re.MULTILINE)
    assert anchors == [name.lower().replace(" ", "-") for name in QUERIES]
    assert len(QUERIES) == SECTION.count("```sql") == 11


@pytest.mark.parametrize("name", list(QUERIES))
def test_a_query_runs_where_nothing_is_there(name: str) -> None:
    assert isinstance(ask(QUERIES[name]), list)


@pytest.mark.parametrize("name", list(SEEDED))
def test_a_query_finds_what_it_is_there_for(name: str) -> None:
    start(FAN)
    lease()
    seed = SEEDED[name]
    assert name in ("Ready jobs", "Tables") or ask(QUERIES[name]) == []
    if callable(seed):
        seed()
    else:
        with connection.cursor() as cursor:
            cursor.execute(seed)
    assert ask(QUERIES[name])
