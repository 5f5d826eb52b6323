"""The fast path by counts, never by time: what a finished step asks of the database, and whom it wakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from catalog.api import load_playbook
from executions import nudges
from executions.api import Nudge, carry_with, get_execution, report_and_take
from executions.domain.templating import compile_template
from executors import broker
from executors.contract import ActionContext, ActionRequest
from executors.selectors import find_violations
from executors.worker import hand, pace
from executors.worker.gateway import DatabaseGateway
from executors.worker.heartbeat import LeaseKeeper
from executors.worker.pace import MOST, Pace
from executors.worker.turn import TurnBounds, TurnEnd, Worker
from queueing.api import LeasedJob, Take
from tests.support.books import CHAIN, FAN, WIDENING, lease, start, success, work_off
from tests.support.counting import counted
from tests.support.kinds import kinds

on_the_database = pytest.mark.usefixtures("fresh_db")

TAKE: Final = Take("w1", ["default"], MOST, 60.0)
IN_A_REPORT: Final = 2
"""Finish the job under the execution's lock; then the events, the next job, the state and the commit together."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Nudge]:
    """The nudges, instead of being carried."""
    told: list[Nudge] = []
    monkeypatch.setattr(nudges._Carriers, "current", nudges._Carriers.current)
    carry_with(told.append)
    return told


def answer_chain(job: LeasedJob) -> Any:
    n = job.action["inputs"]["n"]
    return {"n": n + 1} if job.node_name == "one" else {"n": n * 10}


@on_the_database
def test_a_report_brings_the_next_job_in_two_round_trips_and_one_transaction(told: list[Nudge]) -> None:
    # What the connection prepares and the process compiles is there from the second time on.
    for _ in range(2):
        execution_id = start(CHAIN, {"n": 4})
        [one] = lease()
        told.clear()
        with counted() as asked:
            judgements, [two] = report_and_take(execution_id, [success(one, answer_chain(one))], TAKE)
    assert judgements == ["accepted"]
    assert (two.node_name, two.attempt, two.action["inputs"]) == ("two", 1, {"n": 5})
    assert (asked.round_trips, asked.begun, asked.committed) == (IN_A_REPORT, 1, 1)
    assert told == []
    # It is leased indeed: nobody else finds it, and its report is accepted.
    assert lease("w2") == []
    assert report_and_take(execution_id, [success(two, answer_chain(two))], TAKE) == (["accepted"], [])
    assert told == []
    assert get_execution(execution_id).result == {"n": 50}
    assert find_violations() == []


@on_the_database
def test_a_fan_out_for_a_worker_that_takes_fewer_wakes_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(broker, "breaker", broker.Breaker())
    monkeypatch.setattr(broker, "_push", lambda queue, message: sent.append((queue, json.loads(message))))
    execution_id = start(WIDENING)
    [one] = lease()
    sent.clear()
    with broker.taking_next("default"), counted() as asked:
        judgements, taken = report_and_take(execution_id, [success(one, 60)], TAKE)
    assert judgements == ["accepted"]
    assert [job.item_index for job in taken] == list(range(MOST))
    assert (asked.begun, asked.committed) == (1, 1)
    # Sixty were published, ten of them for others.
    assert [queue for queue, _ in sent] == ["noetl.default"] * broker.MAX_WAKE_UPS
    assert {message["headers"]["task"] for _, message in sent} == {broker.RUN_JOBS}


@pytest.mark.parametrize(
    ("seconds", "at_once"),
    [
        ([], 1),
        ([0.0], MOST),
        ([0.001], MOST),
        ([0.002], 50),
        ([0.004], 25),
        ([0.01], 10),
        ([0.06], 1),
        ([30.0], 1),
        # A slow one counts at once.
        ([0.001, 0.001, 0.02], 5),
        # Less than ten times as slow is mixed in: 0.004 and 0.3 of what 0.02 is above it.
        ([0.004, 0.02], 11),
        # And quick ones are believed little by little.
        ([0.1, 0.001], 1),
        ([0.1, 0.001, 0.001, 0.001], 2),
        ([0.1] + [0.001] * 20, MOST),
    ],
)
def test_how_many_jobs_are_taken_at_once_follows_the_time_they_take(seconds: list[float], at_once: int) -> None:
    pace_ = Pace()
    for each in seconds:
        pace_.tell(each)
    assert pace_.at_once == at_once


LOOP_ITEMS: Final = 100
IN_A_LOOP: Final = 5
"""A lease; the reports of the first item, of the fifty taken with it, and of the rest; a lease that finds nothing."""


@on_the_database
def test_a_loop_of_a_hundred_items_takes_five_transactions_of_its_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: list[Nudge]
) -> None:
    # However busy the machine is, these jobs count as quick.
    monkeypatch.setattr(pace, "WORTH_SECONDS", 1e9)
    monkeypatch.setattr(hand, "WAIT_SECONDS", 600.0)
    execution_id = start(FAN, {"items": list(range(LOOP_ITEMS))})
    told.clear()
    done: list[int] = []

    def double(request: ActionRequest, context: ActionContext) -> int:
        done.append(request.inputs["item"])
        return 2 * done[-1]

    gateway = DatabaseGateway()
    worker = Worker("w1", gateway, kinds(double), LeaseKeeper(gateway, 60.0), gateway.credential, tmp_path, 60.0)
    with counted() as asked:
        end = worker.run_turn(["default"], TurnBounds(seconds=600.0, stay_seconds=600.0))
    assert end == TurnEnd(LOOP_ITEMS, more=False)
    assert sorted(done) == list(range(LOOP_ITEMS))
    assert get_execution(execution_id).result == {"results": [2 * item for item in range(LOOP_ITEMS)]}
    assert asked.committed <= IN_A_LOOP
    # The worker takes all that follows itself.
    assert told == []
    assert find_violations() == []


# -- what is kept between two of them ------------------------------------------------------------------


@on_the_database
def test_a_playbook_is_parsed_once_per_version_and_a_template_compiled_once_per_text() -> None:
    def work_through(text: str) -> tuple[bool, int, bool, int]:
        """Start and finish an execution. Gives: hits and misses of parsed playbooks, and of compiled templates."""
        caches = (load_playbook, compile_template)
        before = [cache.cache_info() for cache in caches]
        start(text)
        assert work_off(answer_chain) == 2
        (parsed, compiled), (were_parsed, were_compiled) = [cache.cache_info() for cache in caches], before
        return (
            parsed.hits > were_parsed.hits,
            parsed.misses - were_parsed.misses,
            compiled.hits > were_compiled.hits,
            compiled.misses - were_compiled.misses,
        )

    load_playbook.cache_clear()
    compile_template.cache_clear()
    # Each of its three templates is rendered once.
    assert work_through(CHAIN) == (True, 1, False, 3)
    assert work_through(CHAIN) == (True, 0, True, 0)
    # Another version, with the same templates in it.
    assert work_through(f"# again\n{CHAIN}") == (True, 1, True, 0)
