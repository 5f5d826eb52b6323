"""Forced schedules between real processes: who comes late finds it so, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.faults.faulty import CHAIN_RESULT, Faulty
from tests.faults.platforms import faulty_platform
from tests.support.inspection import wait_for
from tests.support.platform import temporary_data_dir

EVALUATE_TOO = """
from executions.api import Nudge, evaluate_execution
from executors.broker import carry
carry(Nudge(evaluate=({0},)))
print(evaluate_execution({0}))
"""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that wait for somebody else."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def is_waited_for(faulty: Faulty) -> bool:
    """Whether somebody waits for a lock in the platform's database."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'noetl' AND wait_event_type = 'Lock'"
    return faulty.query(statement) != [(0,)]


def expire(faulty: Faulty, execution_id: str) -> None:
    """Wait until the database says that the execution's lease has run out, or is nobody's."""
    statement = """SELECT count(*) FROM queue
                   WHERE execution_id = %s AND status = 'leased' AND lease_until > clock_now()"""
    wait_for(lambda: faulty.query(statement, int(execution_id)) == [(0,)])


def test_a_zombies_late_report_is_refused_and_writes_nothing(killable: Faulty) -> None:
    killable.points.arm("report.before", "pause")
    execution_id = killable.start_chain()
    zombie = psutil.Process(killable.points.wait_until_reached("report.before"))
    zombie.suspend()
    try:
        killable.check_completed(execution_id, result=CHAIN_RESULT)
        events = killable.types_of(execution_id)
        killable.points.release("report.before")
    finally:
        zombie.resume()
    [(job_id,)] = killable.query("SELECT id FROM queue WHERE node_id = %s", f"{execution_id}:one")
    wait_for(lambda: f"result of job {job_id} came too late: the lease was lost" in killable.log_of("worker"))
    assert killable.types_of(execution_id) == events
    assert killable.endings_of(execution_id, "one") == ["lost", "done"]
    killable.check_completed(execution_id, result=CHAIN_RESULT)


@pytest.mark.parametrize("is_last", [False, True])
def test_cancelling_waits_for_the_report_that_came_first(
    killable: Faulty, pool: ThreadPoolExecutor, is_last: bool
) -> None:
    """With a step to come the execution is cancelled over the result; after the last one there is nothing to cancel."""
    killable.points.arm("report.inside", "pause")
    execution_id = killable.start_fan(items=1) if is_last else killable.start_chain()
    killable.points.wait_until_reached("report.inside")
    cancelling = pool.submit(killable.starter.cancel, execution_id)
    wait_for(lambda: is_waited_for(killable))
    killable.points.release("report.inside")
    assert cancelling.result(30) is not is_last
    assert killable.status_of(execution_id) == ("completed" if is_last else "cancelled")
    assert killable.types_of(execution_id).count("action_completed") == 1
    # A step that was taken meanwhile is asked to stop.
    wait_for(lambda: killable.query("SELECT count(*) FROM queue WHERE status = 'leased'") == [(0,)])
    killable.check_invariants()


def test_a_report_that_waited_for_the_cancelling_is_a_late_result(killable: Faulty) -> None:
    killable.points.arm("report.before", "pause")
    execution_id = killable.start_chain()
    killable.points.wait_until_reached("report.before")
    assert killable.starter.cancel(execution_id) is True
    killable.points.release("report.before")
    wait_for(lambda: killable.types_of(execution_id)[-1] == "late_result")
    assert killable.types_of(execution_id)[-2:] == ["execution_cancelled", "late_result"]
    assert killable.status_of(execution_id) == "cancelled"
    killable.check_invariants()


def test_the_reaper_leaves_a_job_that_is_reported_before_it_comes_back(killable: Faulty) -> None:
    points = killable.points
    points.arm("report.before", "pause")
    points.arm("reap.between", "pause")
    execution_id = killable.start_chain()
    worker = psutil.Process(points.wait_until_reached("report.before"))
    worker.suspend()
    try:
        # The reaper has seen the lease run out, and has not looked again.
        points.wait_until_reached("reap.between")
        expire(killable, execution_id)
        points.release("report.before")
    finally:
        worker.resume()
    wait_for(lambda: killable.endings_of(execution_id, "one") == ["done"])
    points.release("reap.between")
    killable.check_completed(execution_id, result=CHAIN_RESULT)
    # Of this job alone: on a busy machine another one may well lose a lease this short.
    assert killable.endings_of(execution_id, "one") == ["done"]


@pytest.mark.long
def test_two_evaluators_at_once_write_one_plan() -> None:
    with temporary_data_dir() as data_dir, faulty_platform(data_dir, NOETL_EVALUATE_INLINE="0") as faulty:
        faulty.points.arm("evaluate.inside", "pause")
        execution_id = faulty.start_chain()
        faulty.points.wait_until_reached("evaluate.inside")
        # A second message, and a second evaluator that tells: both leave the execution to the first.
        told = faulty.platform.manage("shell", "--verbosity", "0", "-c", EVALUATE_TOO.format(execution_id)).stdout
        assert told == "False\n"
        assert faulty.types_of(execution_id) == ["execution_start"]
        faulty.points.release("evaluate.inside")
        faulty.check_completed(execution_id, result=CHAIN_RESULT)
