"""A worker process killed at each of its points costs a lease at most; a start killed after its commit is not lost."""

from __future__ import annotations

from typing import Literal

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


def test_a_report_whose_session_is_ended_before_its_commit_loses_nothing(killable: Faulty) -> None:
    killable.points.arm("report.inside", "pause")
    execution_id = killable.start_chain()
    killable.points.wait_until_reached("report.inside")
    # Whoever has written and neither goes on nor commits.
    ended = killable.query(
        """SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
           WHERE datname = 'noetl' AND state = 'idle in transaction' AND backend_xid IS NOT NULL"""
    )
    assert ended == [(True,)]
    assert "action_completed" not in killable.types_of(execution_id)
    killable.points.release("report.inside")
    killable.check_completed(execution_id, result=CHAIN_RESULT)
    # It is reported again under the same lease, or by the next holder when that has run out.
    assert killable.endings_of(execution_id, "one") in (["done"], ["lost", "done"])


@pytest.mark.parametrize("demand", ["kill", "error"])
def test_a_child_whose_start_fails_is_started_once(killable: Faulty, demand: Literal["kill", "error"]) -> None:
    killable.points.arm("child.inside", demand)
    execution_id = killable.start_calling()
    killable.points.wait_until_reached("child.inside")
    killable.check_completed(execution_id, result=CHAIN_RESULT)
    children = "SELECT id FROM execution WHERE parent_execution_id = %s AND parent_node_id = %s"
    [(child_id,)] = killable.query(children, int(execution_id), f"{execution_id}:call")
    killable.check_completed(str(child_id), result=CHAIN_RESULT)
    assert killable.types_of(execution_id).count("child_started") == 1


def test_a_start_killed_after_its_commit_is_there_once(killable: Faulty) -> None:
    killable.points.arm("start.committed", "kill")
    with pytest.raises(NotAcknowledged):
        killable.starter.start("tests/chain", key="once")
    killed_at(killable.points, "start.committed")
    execution_id = killable.starter.start("tests/chain", key="once")
    killable.check_completed(execution_id, result=CHAIN_RESULT)
    assert killable.query("SELECT count(*) FROM execution WHERE idempotency_key = 'once'") == [(1,)]
