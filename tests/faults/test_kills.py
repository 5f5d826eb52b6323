"""A worker process killed at each of its points costs a lease at most; a start killed after its commit is not lost."""

from __future__ import annotations

import pytest

from executions.failpoints import Point
from tests.faults.faulty import CHAIN_RESULT, Faulty, killed_at
from tests.support.starting import NotAcknowledged

ENDINGS: dict[Point, list[str | None]] = {
    "lease.before": ["done"],
    "lease.after": ["lost", "done"],
    "action.before": ["lost", "done"],
    "action.after": ["lost", "done"],
    "report.before": ["lost", "done"],
    "report.inside": ["lost", "done"],
    "report.committed": ["done"],
}
ENDINGS_OF_NEXT: dict[bool, list[list[str | None]]] = {False: [["done"]], True: [["done"], ["lost", "done"]]}
SHORT = {"report.inside", "report.committed"}


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.long) for p in ENDINGS])
def test_a_worker_killed_at_this_point_loses_nothing(killable: Faulty, point: Point) -> None:
    killable.points.arm(point, "kill")
    execution_id = killable.start_chain()
    killed_at(killable.points, point)
    killable.check_completed(execution_id, result=CHAIN_RESULT)
    assert killable.endings_of(execution_id, "one") == ENDINGS[point]
    # The report that was committed may have leased the next job for the worker that died.
    assert killable.endings_of(execution_id, "two") in ENDINGS_OF_NEXT[point == "report.committed"]


@pytest.mark.long
def test_a_worker_killed_between_commit_and_publish_loses_nothing(killable: Faulty) -> None:
    killable.points.arm("action.before", "pause")
    execution_id = killable.start_widening()
    killable.points.wait_until_reached("action.before")
    # Armed now, so that not the start is hit but the report.
    killable.points.arm("publish.before", "kill")
    killable.points.release("action.before")
    killed_at(killable.points, "publish.before")
    killable.check_completed(execution_id, result={"results": list(range(60))})
    assert killable.endings_of(execution_id, "one") == ["done"]


@pytest.mark.long
@pytest.mark.parametrize("point", ["lease.before", "lease.after", "report.before", "report.inside", "report.committed"])
def test_a_database_that_goes_at_this_point_loses_nothing(killable: Faulty, point: Point) -> None:
    killable.points.arm(point, "error")
    execution_id = killable.start_chain()
    killable.points.wait_until_reached(point)
    killable.check_completed(execution_id, result=CHAIN_RESULT)


def test_a_start_killed_after_its_commit_is_there_once(killable: Faulty) -> None:
    killable.points.arm("start.committed", "kill")
    with pytest.raises(NotAcknowledged):
        killable.starter.start("tests/chain", key="once")
    killed_at(killable.points, "start.committed")
    execution_id = killable.starter.start("tests/chain", key="once")
    killable.check_completed(execution_id, result=CHAIN_RESULT)
    assert killable.query("SELECT count(*) FROM execution WHERE idempotency_key = 'once'") == [(1,)]
