"""Old executions go, a month at a time, with all they have; what still runs, and what is younger, stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from executions.api import rerun_execution
from executions.models import Execution
from executors.retention import find_old_months, remove_month
from executors.selectors import find_violations
from tests.support.books import CHAIN, FAN, start, work_off

pytestmark = pytest.mark.usefixtures("fresh_db")

TABLES = ("execution", "event_log", "queue", "lease_history", "action_log", "action_log_total", "large_result", "timer")


@pytest.fixture
def in_a_year() -> Iterator[None]:
    """The database's clock, as the owner of the tables sees it, is far ahead."""
    with connections["admin"].cursor() as cursor:
        cursor.execute("SET noetl.clock_offset = '365 days'")
    yield
    connections["admin"].close()


def counts() -> dict[str, int]:
    with connection.cursor() as cursor:
        found = {}
        for table in TABLES:
            cursor.execute(f"SELECT count(*) FROM {table}")
            [found[table]] = cursor.fetchone()
    return found


def retention(*words: str) -> list[dict[str, Any]]:
    told = StringIO()
    call_command("retention", *words, "--json", stdout=told, stderr=StringIO())
    found: list[dict[str, Any]] = json.loads(told.getvalue())
    return found


def test_a_month_goes_with_all_it_has(in_a_year: None, settings: Any, tmp_path: Path) -> None:
    settings.NOETL_DATA_DIR = tmp_path
    ended = [start(CHAIN), start(FAN)]
    work_off(lambda job: {"n": 1})
    for place in (f"files/{ended[0]}/out", f"files/{ended[0] + 1}/out"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "duckdb").mkdir()
    (tmp_path / f"duckdb/{ended[0]}.duckdb").touch()
    (tmp_path / f"duckdb/{ended[0]}.duckdb.wal").touch()
    before = counts()
    assert before["execution"] == 2 and before["queue"] and before["event_log"] and before["lease_history"]

    told = retention("--keep", "30")
    assert sum(month["executions"] for month in told) == 2 and not any(month["removed"] for month in told)
    assert counts() == before

    assert [month["executions"] for month in retention("--keep", "30", "--yes") if month["executions"]] == [2]
    assert set(counts().values()) == {0}
    assert [path.name for path in tmp_path.glob("files/*")] == [str(ended[0] + 1)]
    assert list((tmp_path / "duckdb").iterdir()) == []
    assert retention("--keep", "30", "--yes") == []

    # The months that were dropped are there again, and work goes on.
    with connection.cursor() as cursor:
        cursor.execute("SELECT ensure_event_partitions(1)")
    start(CHAIN)
    work_off(lambda job: {"n": 1})
    assert find_violations() == []


def test_a_month_with_an_open_execution_is_kept(in_a_year: None) -> None:
    start(FAN)
    work_off(lambda job: {"n": 1})
    start(CHAIN)
    before = counts()
    [kept] = [month for month in retention("--keep", "30", "--yes") if month["executions"]]
    assert (kept["executions"], kept["open"], kept["removed"]) == (2, 1, False)
    assert counts() == before


def test_a_month_with_the_parent_of_an_open_execution_is_kept(in_a_year: None) -> None:
    parent, child = start(CHAIN), start(CHAIN)
    work_off(lambda job: {"n": 1})
    Execution.objects.filter(id=child).update(parent_execution_id=parent, parent_waits=True)
    [kept] = [month for month in retention("--keep", "30", "--yes") if month["executions"]]
    assert kept["open"] == 2


def test_a_month_with_what_an_open_rerun_reads_is_kept(in_a_year: None) -> None:
    first = start(CHAIN)
    work_off(lambda job: {"n": 1})
    again = rerun_execution(first, from_step="two")
    work_off(lambda job: {"n": 1})
    rerun_execution(again, from_step="two")
    [kept] = [month for month in retention("--keep", "30", "--yes") if month["executions"]]
    assert (kept["executions"], kept["open"], kept["removed"]) == (3, 3, False)


def test_a_rerun_that_begins_meanwhile_keeps_the_month(in_a_year: None, tmp_path: Path) -> None:
    first = start(CHAIN)
    work_off(lambda job: {"n": 1})
    [found] = [month for month in find_old_months(30) if month.executions]
    of_first = replace(found, first_id=first, end_id=first + 1)
    before, started = counts()["event_log"], list[int]()
    assert not remove_month(of_first, tmp_path, lambda done: started.append(rerun_execution(first, from_step="two")))
    assert len(started) == 1
    assert counts()["event_log"] > before and counts()["execution"] == 2
    work_off(lambda job: {"n": 1})
    assert find_violations() == []


def test_months_after_one_that_is_kept_stay(in_a_year: None) -> None:
    start(CHAIN)
    told = retention("--keep", "30", "--yes")
    place = next(place for place, month in enumerate(told) if month["executions"])
    assert len(told) > place + 1
    assert not any(month["removed"] for month in told[place:])


def test_a_file_that_cannot_be_removed_is_told_and_not_forgotten(
    in_a_year: None, settings: Any, tmp_path: Path
) -> None:
    settings.NOETL_DATA_DIR = tmp_path
    (tmp_path / "files").mkdir()
    odd = tmp_path / "files" / str(start(CHAIN))
    odd.touch()
    work_off(lambda job: {"n": 1})
    with pytest.raises(CommandError, match="cannot be removed"):
        retention("--keep", "30", "--yes")
    assert counts()["execution"] == 1
    odd.unlink()
    retention("--keep", "30", "--yes")
    assert counts()["execution"] == 0


def test_what_is_young_stays() -> None:
    start(CHAIN)
    work_off(lambda job: {"n": 1})
    assert retention("--keep", "1", "--yes") == []


def test_events_in_use_stay_and_so_do_their_executions(in_a_year: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executors.retention.LOCK_TIMEOUT", "50ms")
    start(CHAIN)
    work_off(lambda job: {"n": 1})
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM event_log")
        with pytest.raises(CommandError, match="are in use; run it again later"):
            retention("--keep", "30", "--yes")
    assert counts()["execution"] == 1 and counts()["event_log"] > 0
    assert find_violations() == []
    retention("--keep", "30", "--yes")
    assert set(counts().values()) == {0}


def test_nothing_is_removed_unasked() -> None:
    with pytest.raises(CommandError, match="1 or more"):
        call_command("retention", "--keep", "0")
    told = StringIO()
    call_command("retention", "--keep", "365", stdout=told)
    assert told.getvalue() == "no month is that old\n"
