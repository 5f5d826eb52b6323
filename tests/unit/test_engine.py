"""The engine in memory: what an answer becomes in the log, and what stays open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from catalog.domain.playbook import Child, Loop, Playbook, Retry, Wait
from executions.domain import events as ev
from executions.domain.comparison import Difference, compare, replay_recorded
from executions.domain.engine import Engine, begin
from executions.domain.fold import replay
from executions.domain.forecast import Unknown, forecast
from executions.domain.memory import MemoryLog
from executions.domain.outcomes import ActionOutcome
from tests.support.builders import default, end, playbook, start, step, to, when

META = {"attempt": 1}
WELL = ActionOutcome("success", {"n": 1})
BADLY = ActionOutcome("error", error={"code": "boom", "message": "broken"})


def started(book: Playbook, payload: Any = None) -> Engine:
    engine = begin(book, "1", payload)
    engine.start("0.1.0")
    return engine


def report(engine: Engine, node: str, said: ActionOutcome = WELL) -> float | None:
    return engine.report(engine.jobs[f"1:{node}"], said, META, "2026-01-01T00:00:00+00:00")


def types(engine: Engine) -> list[str]:
    return [event.type for event in engine.log]


CHAIN = playbook(start(to("a")), step("a", to("end")), end({"n": "{{ a.n }}"}))


def test_a_report_is_written_as_the_start_and_the_end_of_an_action() -> None:
    engine = started(CHAIN)
    assert report(engine, "a") is None
    begun, outcome = (event for event in engine.log if event.type.startswith("action_"))
    assert (begun.type, begun.meta) == (ev.ACTION_STARTED, {**META, "leased_at": "2026-01-01T00:00:00+00:00"})
    assert (outcome.type, outcome.meta, outcome.result) == (ev.ACTION_COMPLETED, META, {"n": 1})
    assert (engine.status, engine.result, engine.jobs) == ("completed", {"n": 1}, {})
    assert replay(engine.log, engine.playbook) == engine.state


def test_a_failed_try_is_told_and_the_job_stays_open() -> None:
    book = playbook(start(to("a")), step("a", retry=Retry(max_attempts=3, initial_delay=2)))
    engine = started(book)
    assert [report(engine, "a", BADLY) for _ in range(3)] == [2.0, 4.0, None]
    told = [event.context for event in engine.log if event.type == ev.ACTION_RETRY]
    assert told == [{"try": 1, "delay_seconds": 2.0}, {"try": 2, "delay_seconds": 4.0}]
    assert (engine.status, types(engine).count(ev.ACTION_ERROR)) == ("failed", 1)
    assert replay(engine.log, book) == engine.state


NONSENSE: list[Any] = [0, -5, "30", None, True, [30], {}]


@pytest.mark.parametrize(
    ("asked", "delays"),
    [
        (30, [30.0, 30.0, None]),
        (3, [3.0, 4.0, None]),
        (0.5, [2.0, 4.0, None]),
        (10**9, [3600.0, 3600.0, None]),
        *[(nonsense, [2.0, 4.0, None]) for nonsense in NONSENSE],
    ],
)
def test_a_failure_may_ask_for_a_longer_pause(asked: Any, delays: list[float | None]) -> None:
    book = playbook(start(to("a")), step("a", retry=Retry(max_attempts=3, initial_delay=2, max_delay=10)))
    engine = started(book)
    busy = replace(BADLY, error={"code": "x", "message": "busy", "retry_after_seconds": asked})
    assert [report(engine, "a", busy) for _ in range(3)] == delays
    told = [event.context["delay_seconds"] for event in engine.log if event.type == ev.ACTION_RETRY]
    assert told == delays[:2]
    assert replay(engine.log, book) == engine.state


def test_a_failure_that_asks_for_a_pause_gets_no_try_of_its_own() -> None:
    book = playbook(start(to("a")), step("a"))
    engine = started(book)
    assert report(engine, "a", replace(BADLY, error={"code": "x", "message": "y", "retry_after_seconds": 1})) is None
    assert engine.status == "failed"


def test_what_was_called_off_is_late() -> None:
    book = playbook(start(to("a", "b")), step("a"), step("b"))
    engine = started(book)
    a, b = engine.jobs.values()
    assert engine.report(a, BADLY, META, None) is None
    assert (engine.status, engine.take_news().closed) == ("failed", ["1:b"])
    engine.report(b, WELL, META, None)
    assert types(engine)[-1] == ev.LATE_RESULT
    assert engine.error["step"] == "a"
    assert replay(engine.log, book) == engine.state


def test_what_was_called_off_is_late_also_while_the_rest_goes_on() -> None:
    each = step("each", to("b"), loop=Loop(items=[1], element="n"), timeout_seconds=5, on_error="continue")
    book = playbook(start(to("each")), each, step("b"))
    engine = started(book)
    [job] = engine.jobs.values()
    [timer] = engine.take_news().timers
    engine.fire(timer, "")
    assert (engine.take_news().closed, list(engine.jobs)) == (["1:each:0"], ["1:b"])
    engine.report(job, WELL, META, None)
    assert (types(engine)[-1], engine.status) == (ev.LATE_RESULT, "running")
    assert replay(engine.log, book) == engine.state


def test_a_child_and_its_answer() -> None:
    fetch = step("fetch", to("end"), action=False, child=Child(path="tests/child"), inputs={"n": 3})
    engine = started(playbook(start(to("fetch")), fetch, end({"m": "{{ fetch.m }}"})))
    [asked] = engine.take_news().children
    assert (asked.path, asked.payload) == ("tests/child", {"n": 3})
    engine.tell_child(asked, "2", "tests/child", "0.1.0")
    engine.end_child(asked, "2", status="success", result={"m": 4})
    assert engine.result == {"m": 4}
    assert engine.end_child(asked, "2", status="success", result={"m": 5}) is None


@pytest.mark.parametrize(("answer", "given"), [(None, {"n": 1}), ("a", {"n": 1}), ("{{ a.n + 1 }}", 2)])
def test_what_a_parent_is_given(answer: str | None, given: Any) -> None:
    engine = started(CHAIN)
    report(engine, "a")
    assert engine.answer(answer) == given


def test_a_child_without_a_result_answers_with_its_last_steps() -> None:
    engine = started(playbook(start(to("a")), step("a", to("b")), step("b", to("c"), action=False), step("c")))
    report(engine, "a")
    report(engine, "c", ActionOutcome("success", None))
    assert (engine.result, engine.answer(None)) == (None, {"n": 1})


def test_a_timer_that_was_called_off_says_nothing() -> None:
    waiting = step("nap", to("end"), action=False, wait=Wait(kind="duration", what="5m"))
    engine = started(playbook(start(to("nap")), waiting, end(), timeout_seconds=60))
    limit, nap = engine.take_news().timers
    assert (limit.seconds, nap.seconds) == (60, 300)
    engine.fire(limit, "")
    assert (engine.status, engine.error["code"], engine.timers) == ("failed", "timeout", {})
    assert engine.fire(nap, "") is None


BODY = playbook(
    start(to("each")),
    step("each", to("one"), action=False, loop=Loop(items=[1, 2, 3], element="n", end="close")),
    step("one", to("two"), inputs={"n": "{{ n }}"}),
    step("two", to("close"), inputs={"n": "{{ one.n }}"}),
    step("close", to("end"), action=False, end_loop="each", result={"all": "{{ each_results }}"}),
    end("{{ close.all }}"),
)


def test_the_frames_of_items_are_kept_and_dropped_with_them() -> None:
    engine = started(BODY)
    sizes = []
    while engine.jobs:
        job = next(iter(engine.jobs.values()))
        engine.report(job, ActionOutcome("success", {"n": job.action["inputs"]["n"] * 10}), META, None)
        sizes.append(len(engine.state.frames))
    assert sizes == [4, 4, 4, 3, 2, 1]
    assert engine.result == [{"one": {"n": n * 10}, "two": {"n": n * 100}} for n in (1, 2, 3)]
    assert replay(engine.log, BODY) == engine.state


# -- a past execution under another playbook ----------------------------------------------------------


def differences(book: Playbook, changed: Playbook, answers: dict[str, Any]) -> tuple[list[Difference], list[str]]:
    engine = started(book)
    while engine.jobs:
        job = next(iter(engine.jobs.values()))
        engine.report(job, ActionOutcome("success", answers.get(job.step)), META, None)
    recorded = MemoryLog(zip(engine.log.events, engine.log.times, strict=True))
    after = replay_recorded(changed, recorded, {})
    return compare(recorded, replay_recorded(book, recorded, {}), after), after.would_run


BRANCHING = playbook(
    start(to("a")),
    step("a", when("{{ a.n > 1 }}", "big"), default("small")),
    step("big", to("end"), inputs={"n": "{{ a.n }}"}),
    step("small", to("end")),
    end({"status": "done"}),
)


def test_the_same_playbook_differs_in_nothing() -> None:
    assert differences(BRANCHING, BRANCHING, {"a": {"n": 5}}) == ([], [])
    assert differences(BODY, BODY, {"one": {"n": 2}, "two": {"n": 3}}) == ([], [])


def test_a_changed_condition_takes_the_other_branch_where_nothing_was_recorded() -> None:
    steps = list(BRANCHING.steps)
    steps[1] = step("a", when("{{ a.n > 10 }}", "big"), default("small"))
    found, would_run = differences(BRANCHING, playbook(*steps), {"a": {"n": 5}})
    assert would_run == ["1:small"]
    told = {(one.what, one.node_id): (one.before, one.after) for one in found}
    assert told["transition", "1:a"] == (["big"], ["small"])
    assert told["step", "1:big"] == ("success", None)
    assert told["step", "1:small"] == (None, "running")
    assert told["status", "1"] == ("completed", "running")


def test_a_changed_action_is_told_and_still_answered_by_what_was_recorded() -> None:
    steps = list(BRANCHING.steps)
    steps[2] = step("big", to("end"), inputs={"n": "{{ a.n * 2 }}"})
    found, would_run = differences(BRANCHING, playbook(*steps), {"a": {"n": 5}})
    assert would_run == []
    [changed] = found
    assert (changed.what, changed.node_id) == ("action", "1:big")
    assert (changed.before["inputs"], changed.after["inputs"]) == ({"n": 5}, {"n": 10})


# -- the dry run ---------------------------------------------------------------------------------------


def test_a_forecast_renders_what_starts_at_once_and_says_what_is_unknown() -> None:
    book = playbook(
        start(to("each"), when("{{ workload.more }}", "more")),
        step("each", to("a"), loop=Loop(items="{{ workload.n }}", element="item"), inputs={"it": "{{ item }}"}),
        step("more"),
        step("a", when("{{ a.n > 1 }}", "big"), default("small"), inputs={"n": "{{ each.count }}", "m": "{{ more }}"}),
        step("big", inputs={"known": "{{ workload.n }}"}),
        step("small"),
        end(),
        workload={"n": [7, 8], "more": False},
    )
    found = {one.name: one for one in forecast(book, {"n": [1, 2, 3, 4]}, {})}
    assert list(found) == ["start", "each", "more", "a", "big", "small", "end"]
    assert (found["each"].status, found["each"].items) == ("running", 4)
    assert [work["inputs"] for work in found["each"].rendered] == [{"it": 1}, {"it": 2}, {"it": 3}]
    assert (found["more"].status, found["more"].reached) == ("", ["if {{ workload.more }}, after start"])
    # `more` is a step and a key of the workload: what it will be is not known.
    inputs = {"n": Unknown("{{ each.count }}", ("each",)), "m": Unknown("{{ more }}", ("more",))}
    assert found["a"].work["inputs"] == inputs
    assert found["big"].reached == ["if {{ a.n > 1 }}, after a"]
    assert found["big"].work["inputs"] == {"known": [1, 2, 3, 4]}
    assert found["small"].reached == ["otherwise, after a"]
    assert found["end"].reached == ["when nothing else is left to run"]
