"""Fleets beside those of the platform: with clocks that are hours off, and of newer code on newer tables."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.faulty import CHAIN_RESULT, Faulty
from tests.faults.fleets import Fleet, fleet
from tests.faults.platforms import faulty_platform
from tests.faults.test_processes import SLOW
from tests.support.books import CHAIN, FAN
from tests.support.inspection import wait_for
from tests.support.platform import temporary_data_dir
from tests.support.trees import copied_tree

HOUR = 3600.0
ITEMS = 120
FAN_DONE = {"results": [2 * item for item in range(ITEMS)]}
PRESSED = FAN.replace("item * 2", "__import__('time').sleep(0.02) or item * 2")
"""A fan whose items take long enough for more than one fleet to come by."""

CLOCK = """
apiVersion: noetl.io/v1
kind: Playbook
name: clock
path: tests/clock
workflow:
  - {step: start, next: look}
  - {step: look, type: python, code: "def main(): print('tick')", next: end}
  - {step: end}
"""
"""Its log has the worker's time."""


@pytest.fixture
def idle() -> Iterator[Faulty]:
    """A platform that has no workers of its own."""
    with (
        temporary_data_dir() as data_dir,
        faulty_platform(data_dir, texts=(CHAIN, PRESSED, SLOW, CLOCK), arguments=("--workers", "0")) as faulty,
    ):
        yield faulty


def serving(faulty: Faulty, fleets: dict[str, Fleet]) -> set[str]:
    """Which of these fleets have held a lease."""
    pids = {int(worker_id.rpartition(":")[2]) for (worker_id,) in faulty.query("SELECT worker_id FROM lease_history")}
    return {name for name, its in fleets.items() if pids & set(its.pids)}


def share(faulty: Faulty, fleets: dict[str, Fleet]) -> None:
    """Executions until each of the fleets has held a lease; all of them have the right end."""
    for _ in range(10):
        fans = [faulty.start_fan(items=ITEMS) for _ in range(3)]
        chains = [faulty.start_chain() for _ in range(3)]
        faulty.check_completed(*fans, result=FAN_DONE)
        faulty.check_completed(*chains, result=CHAIN_RESULT)
        if serving(faulty, fleets) == set(fleets):
            return
    raise AssertionError(f"only {serving(faulty, fleets)} took jobs")


@pytest.mark.long
def test_a_worker_whose_clock_is_an_hour_off_changes_nothing(idle: Faulty) -> None:
    """No lease is lost by it, a dead one is told as soon as any other, and no time in the log is of its clock."""
    begun_at = time.time()
    with fleet(idle, "fast", ahead_seconds=HOUR) as fast, fleet(idle, "late", ahead_seconds=-HOUR) as late:
        clock = idle.starter.start("tests/clock")
        idle.wait_until_ended(clock)
        by_its_clock = "SELECT extract(epoch FROM at) FROM action_log WHERE execution_id = %s"
        [(ticked_at,)] = wait_for(lambda: idle.query(by_its_clock, int(clock)))
        assert abs(float(ticked_at) - time.time()) > HOUR - 60, "the clocks are not false"
        share(idle, {"fast": fast, "late": late})
        # It outlives its lease twice over, by heartbeats.
        slow = idle.starter.start("tests/slow")
        idle.check_completed(slow, result={"ok": True})
        assert idle.query("SELECT DISTINCT ending FROM lease_history") == [("done",)]
        # Whoever takes the dead one's job has a clock that says another hour.
        orphan = idle.starter.start("tests/slow")
        idle.holder_of(orphan).kill()
        idle.check_completed(orphan, result={"ok": True})
        assert idle.endings_of(orphan, "nap") == ["lost", "done"]
    between = "SELECT min(extract(epoch FROM {0})), max(extract(epoch FROM {0})) FROM {1}"
    for column, table in (("timestamp", "event_log"), ("leased_at", "lease_history"), ("ended_at", "execution")):
        [(first, last)] = idle.query(between.format(column, table))
        assert begun_at - 60 < first <= last < time.time() + 60, (table, column)


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[Path]:
    """The code of a next release: its states have another format, its tables a column and an index more."""
    with copied_tree() as tree:
        states = tree / "executions" / "domain" / "state.py"
        text = states.read_text()
        for old, new, times in (
            ("\nFORMAT = 1 + ev.FORMAT\n", "\nFORMAT = 2 + ev.FORMAT\n", 1),
            ('"root"', '"top"', 3),
        ):
            assert text.count(old) == times
            text = text.replace(old, new)
        states.write_text(text)
        folder = tree / "queueing" / "migrations"
        before = max(file.stem for file in folder.glob("0*.py"))
        (folder / "9999_newer.py").write_text(NEWER.format(before=before))
        yield tree


NEWER = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("queueing", "{before}")]
    operations = [
        migrations.RunSQL("ALTER TABLE noetl.queue ADD COLUMN newer text"),
        migrations.RunSQL("CREATE INDEX queue_newer ON noetl.queue (newer) WHERE newer IS NOT NULL"),
    ]
"""


@pytest.mark.long
def test_old_and_new_code_work_side_by_side(idle: Faulty, newer: Path) -> None:
    """A release rolled out and back: migrated beside running executions, both serve them, then either alone."""
    with ExitStack() as old_one:
        old = old_one.enter_context(fleet(idle, "old"))
        running = [idle.start_fan(items=ITEMS) for _ in range(4)]
        wait_for(lambda: idle.query("SELECT count(*) > 20 FROM lease_history WHERE ending = 'done'") == [(True,)])
        migrate = [sys.executable, "manage.py", "migrate", "--skip-checks", "--verbosity", "0"]
        subprocess.run(migrate, cwd=newer, env=idle.platform.env, check=True, timeout=60)
        assert [idle.status_of(id_) for id_ in running].count("running"), "it was over before the tables changed"
        with fleet(idle, "new", tree=newer) as new:
            share(idle, {"old": old, "new": new})
            idle.check_completed(*running, result=FAN_DONE)
            formats = {number for (number,) in idle.query("SELECT (state->>'format')::int FROM execution")}
            assert formats == {2, 3}
            old_one.close()
            share(idle, {"new": new})
            left = [idle.start_fan(items=ITEMS) for _ in range(4)]
        with fleet(idle, "back") as back:
            share(idle, {"back": back})
            idle.check_completed(*left, result=FAN_DONE)
    assert idle.query("SELECT DISTINCT ending FROM lease_history WHERE ending NOT IN ('done', 'released')") == []
