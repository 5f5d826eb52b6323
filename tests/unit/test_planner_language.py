"""The planner's rules beyond branches and simple loops: frames, joins, failures, waits, ends; one idea per test."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.domain.playbook import Action, Child, Loop, Playbook, Retry, Step, Target, Transition, Wait
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.frames import decode_bits, encode_bits
from executions.domain.jobs import EnqueueJob
from executions.domain.retries import delay_seconds
from tests.support.builders import default, end, playbook, start, step, to, when
from tests.support.driver import Driver

UNDO = Action(kind="python", arguments={"code": "undo"}, verbatim=("code",))


def over(name: str, *entries: Transition, items: Any, end: str, **fields: Any) -> Step:
    """A loop over several steps."""
    options: dict[str, Any] = {
        key: fields.pop(key) for key in ("mode", "concurrency", "on_error", "element") if key in fields
    }
    return step(
        name, *entries, action=False, loop=Loop(**{"items": items, "element": "item", "end": end, **options}), **fields
    )


def closes(loop: str, *transitions: Transition, name: str = "close", **fields: Any) -> Step:
    """The step that closes a loop over several steps."""
    return step(name, *transitions, action=False, end_loop=loop, **fields)


def failing(*nodes: str) -> Any:
    """An answer that fails at these nodes (without the execution)."""

    def answer(job: EnqueueJob) -> Any:
        if job.node_id.partition(":")[2] in nodes:
            raise RuntimeError(f"{job.node_id} is broken")
        return job.node_id.partition(":")[2]

    return answer


def test_each_item_of_a_loop_over_steps_goes_its_own_way() -> None:
    book = playbook(
        start(to("each")),
        over("each", to("look"), items=[1, 2, 3], end="close"),
        step("look", when("{{ item > 2 }}", "more"), default("close"), inputs={"n": "{{ item }}"}),
        step("more", to("close")),
        closes("each", to("end"), result={"all": "{{ each_results }}", "count": "{{ all | length }}"}),
        end("{{ close }}"),
    )
    driver = Driver(book, lambda job: job.node_id).run()
    assert driver.result == {
        "all": [
            {"look": "1:look:0", "more": None},
            {"look": "1:look:1", "more": None},
            {"look": "1:look:2", "more": "1:more:2"},
        ],
        "count": 3,
    }
    assert driver.replayed() == driver.state


def test_a_failing_item_is_told_and_stops_no_other() -> None:
    book = playbook(
        start(to("each")),
        over("each", to("one", "two"), items=[1, 2], end="close", on_error="continue"),
        step("one", to("close")),
        step("two", to("close")),
        closes("each", result="{{ each }}"),
    )
    driver = Driver(book, failing("one:0")).run()
    ended = next(event for event in driver.log if event.type == ev.LOOP_ITERATION_COMPLETED)
    assert (ended.node_id, ended.status, ended.error["step"]) == ("1:each:0", "error", "one")
    found = next(event.result for event in driver.log if event.type == ev.STEP_COMPLETED and event.node_name == "close")
    assert found["results"] == [{"one": None, "two": None}, {"one": "one:1", "two": "two:1"}]
    assert found["errors"] == [{"index": 0, "message": "1:one:0 is broken"}]
    assert driver.log[-1].type == ev.EXECUTION_COMPLETED


def test_a_loop_that_fails_names_its_first_failed_item() -> None:
    book = playbook(
        start(to("each")), over("each", to("one"), items=[1, 2], end="close"), step("one", to("close")), closes("each")
    )
    driver = Driver(book, failing("one:1")).run()
    assert driver.error["code"] == "loop_item_failed"
    assert driver.error["index"] == 1
    assert driver.error["step"] == "each"


def test_a_loop_visited_again_shares_no_node() -> None:
    book = playbook(
        start(to("each")),
        over("each", to("one"), items=[1], end="close"),
        step("one", to("close")),
        closes("each", to("judge")),
        step("judge", when("{{ judge == 'judge' }}", "each"), default("end")),
        end(),
    )
    driver = Driver(book, failing()).run()
    nodes = [job.node_id for job in driver.enqueued]
    assert nodes == ["1:one:0", "1:judge", "1:one:0#1001", "1:judge#2"]


def test_join_any_takes_the_first_and_absorbs_the_rest() -> None:
    book = playbook(
        start(to("fast", "slow")),
        step("fast", to("meet")),
        step("slow", to("meet")),
        step("meet", to("end"), join="any"),
        end(),
    )
    driver = Driver(book).run()
    assert driver.types().count("step_started:meet") == 1
    types = driver.types()
    assert types.index("step_started:meet") < types.index("action_completed:slow")


def test_join_all_fails_when_a_branch_can_no_longer_arrive() -> None:
    book = playbook(
        start(to("one", "two")),
        step("one", to("meet")),
        step("two", when("{{ two == 'never' }}", "meet")),
        step("meet", join="all"),
    )
    driver = Driver(book, failing()).run()
    assert driver.error["code"] == "join_incomplete"
    assert driver.error["absent"] == ["two"]


@pytest.mark.parametrize(
    ("fields", "ran"),
    [
        ({"on_error": "continue"}, {"after"}),
        ({"on_error": "route", "error_targets": (Target(step="mend"),)}, {"mend"}),
    ],
)
def test_a_step_handles_its_failure(fields: dict[str, Any], ran: set[str]) -> None:
    book = playbook(start(to("bad")), step("bad", to("after"), **fields), step("after"), step("mend"))
    driver = Driver(book, failing("bad")).run()
    assert driver.log[-1].type == ev.EXECUTION_COMPLETED
    assert {job.step for job in driver.enqueued} == {"bad", *ran}


def test_the_playbook_handles_what_no_step_does_but_not_its_handlers() -> None:
    book = playbook(start(to("bad")), step("bad"), step("mend"), on_error=(Target(step="mend"),))
    assert Driver(book, failing("bad")).run().log[-1].type == ev.EXECUTION_COMPLETED
    driver = Driver(book, failing("bad", "mend")).run()
    assert driver.error["step"] == "mend"


def test_undo_runs_backwards_then_finally_then_the_end() -> None:
    book = playbook(
        start(to("one")),
        step("one", to("two"), undo=UNDO, undo_inputs={"made": "{{ one }}"}),
        step("two", to("bad"), undo=UNDO),
        step("bad"),
        step("clean", inputs={"was": "{{ execution.status }}"}),
        finally_steps=("clean",),
    )
    driver = Driver(book, failing("bad", "two#undo")).run()
    assert [job.node_id for job in driver.enqueued] == [
        *("1:one", "1:two", "1:bad"),
        *("1:two#undo", "1:one#undo"),
        "1:clean",
    ]
    assert driver.enqueued[-2].action["inputs"] == {"made": "one"}
    assert driver.enqueued[-1].action["inputs"] == {"was": "failed"}
    undone = [(event.node_id, event.status) for event in driver.log if event.type == ev.STEP_UNDONE]
    assert undone == [("1:two", "error"), ("1:one", "success")]
    assert driver.error["step"] == "bad"
    assert driver.replayed() == driver.state


def test_finally_runs_after_success_and_its_failure_counts() -> None:
    book = playbook(start(to("one")), step("one"), step("clean"), finally_steps=("clean",))
    assert Driver(book).run().types()[-4:] == [
        *("action_completed:clean", "step_completed:clean"),
        *("transition_evaluated:clean", "execution_completed:book"),
    ]
    driver = Driver(book, failing("clean")).run()
    assert (driver.log[-1].type, driver.error["step"]) == (ev.EXECUTION_FAILED, "clean")


def of_execution(driver: Driver, type_: str, **fields: Any) -> Event:
    return Event(driver.state.seq + 1, type_, "1", "book", ev.NODE_EXECUTION, **fields)


def test_a_cancel_runs_finally_and_a_second_one_ends_it() -> None:
    book = playbook(start(to("one")), step("one"), step("clean"), finally_steps=("clean",))
    driver = Driver(book)
    driver.start()
    driver.happen(of_execution(driver, ev.CANCEL_REQUESTED))
    assert [job.step for job in driver.jobs] == ["clean"]
    driver.happen(of_execution(driver, ev.CANCEL_REQUESTED, meta={"by": "ada"}))
    assert (driver.log[-1].type, driver.log[-1].meta) == (ev.EXECUTION_CANCELLED, {"by": "ada"})
    assert driver.jobs == []


def test_a_paused_execution_plans_nothing_until_it_is_resumed() -> None:
    book = playbook(start(to("one")), step("one", to("two")), step("two"))
    driver = Driver(book)
    driver.start()
    driver.happen(of_execution(driver, ev.EXECUTION_PAUSED))
    driver.report(driver.jobs.pop())
    assert driver.log[-1].type == ev.ACTION_COMPLETED
    driver.happen(of_execution(driver, ev.EXECUTION_RESUMED))
    assert [job.step for job in driver.jobs] == ["two"]
    driver.happen(of_execution(driver, ev.EXECUTION_PAUSED))
    driver.happen(of_execution(driver, ev.CANCEL_REQUESTED))
    assert driver.log[-1].type == ev.EXECUTION_CANCELLED


def waits(kind: Any, what: Any, **fields: Any) -> Playbook:
    wait = step("wait", to("end"), action=False, wait=Wait(kind=kind, what=what), **fields)
    return playbook(start(to("wait")), wait, end("{{ wait }}"))


def test_a_wait_for_time_sets_a_timer() -> None:
    driver = Driver(waits("duration", "5m"))
    decision = driver.start()
    assert [(timer.node_id, timer.kind, timer.seconds) for timer in decision.timers] == [("1:wait", "wait", 300.0)]
    driver.happen(Event(driver.state.seq + 1, ev.TIMER_FIRED, "1:wait", "wait", ev.NODE_STEP, context={"kind": "wait"}))
    assert driver.log[-1].type == ev.EXECUTION_COMPLETED


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_is_kept_for_the_first_who_waits(early: bool) -> None:
    driver = Driver(playbook(start(to("one")), step("one", to("wait")), *waits("signal", "go").steps[1:]))
    driver.start()

    def signal() -> None:
        driver.happen(of_execution(driver, ev.SIGNAL_RECEIVED, context={"name": "go", "data": {"n": 1}, "by": "ada"}))

    if early:
        signal()
    driver.report(driver.jobs.pop())
    if not early:
        signal()
    assert driver.result == {"n": 1}
    assert driver.replayed() == driver.state


def test_a_wait_that_ends_its_loop_is_among_the_loops_results() -> None:
    book = playbook(
        start(to("each")),
        over("each", to("wait"), items=["go"], end="close"),
        step("wait", to("close"), action=False, wait=Wait(kind="signal", what="{{ item }}")),
        closes("each", to("end")),
        end("{{ each_results }}"),
    )
    driver = Driver(book)
    driver.start()
    driver.happen(of_execution(driver, ev.SIGNAL_RECEIVED, context={"name": "go", "data": 1, "by": ""}))
    assert driver.result == [{"wait": 1}]


@pytest.mark.parametrize("approved", [True, False])
def test_an_approval_ends_as_it_is_answered(approved: bool) -> None:
    driver = Driver(waits("approval", "ship it?"))
    driver.start()
    answer = {"approved": approved, "answer": {}}
    driver.happen(
        Event(driver.state.seq + 1, ev.SIGNAL_RECEIVED, "1:wait", "wait", ev.NODE_STEP, context={"data": answer})
    )
    assert driver.statuses()["wait"] == ("success" if approved else "error")
    assert (driver.error or {}).get("code") == (None if approved else "approval_rejected")


def test_a_wait_past_its_timeout_fails() -> None:
    driver = Driver(waits("signal", "go", timeout_seconds=60))
    driver.start()
    fired = Event(driver.state.seq + 1, ev.TIMER_FIRED, "1:wait", "wait", ev.NODE_STEP, context={"kind": "timeout"})
    driver.happen(fired)
    assert driver.error["code"] == "timeout"


def test_a_child_is_asked_for_and_its_result_is_the_steps() -> None:
    child = step(
        "child", to("end"), action=False, child=Child(path="other", version="0.1.0"), inputs={"n": "{{ workload.n }}"}
    )
    driver = Driver(playbook(start(to("child")), child, end("{{ child.m }}")), payload={"n": 3})
    [asked] = driver.start().children
    assert (asked.path, asked.version, asked.payload) == ("other", "0.1.0", {"n": 3})
    done = Event(
        driver.state.seq + 1, ev.CHILD_COMPLETED, "1:child", "child", ev.NODE_STEP, status="success", result={"m": 4}
    )
    driver.happen(done)
    assert driver.result == 4


def test_an_execution_past_its_time_fails() -> None:
    driver = Driver(playbook(start(to("one")), step("one"), timeout_seconds=5))
    [timer] = driver.start().timers
    assert (timer.node_id, timer.kind, timer.seconds) == ("1", "timeout", 5.0)
    driver.happen(of_execution(driver, ev.TIMER_FIRED, context={"kind": "timeout"}))
    assert driver.error["code"] == "timeout"


def test_steps_override_runs_the_listed_steps_in_their_order() -> None:
    book = playbook(start(to("one")), step("one", to("two"), skip_if=True), step("two"), end("never"))
    driver = Driver(book, payload={"steps_override": {"two": {"n": 1}, "one": None}}).run()
    assert [(job.step, job.action["inputs"]) for job in driver.enqueued] == [("two", {"n": 1}), ("one", {})]
    assert driver.log[-1].type == ev.EXECUTION_COMPLETED
    assert "end" not in driver.statuses()


@pytest.mark.parametrize(
    ("loop", "seen"),
    [
        ({"order_by": "{{ -item }}", "limit": 2}, [5, 4]),
        ({"filter": "{{ item != 4 }}", "order_by": "{{ -item }}", "limit": "{{ 2 }}"}, [5, 3]),
        ({"chunk": 2, "enumerate": True}, [[1, 2], [3, 4], [5]]),
    ],
)
def test_items_are_filtered_ordered_cut_and_chunked(loop: dict[str, Any], seen: list[Any]) -> None:
    each = step("each", loop=Loop(items=[1, 2, 3, 4, 5], element="item", **loop), inputs={"item": "{{ item }}"})
    driver = Driver(playbook(start(to("each")), each)).run()
    assert [job.action["inputs"]["item"] for job in driver.enqueued] == seen


def test_a_retrys_pause_grows_to_its_bound_and_varies_by_a_hash() -> None:
    retry = Retry(max_attempts=9, initial_delay=1, backoff_multiplier=2, max_delay=5)
    assert [delay_seconds(retry, "1:a", tries) for tries in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]
    varied = {delay_seconds(retry.model_copy(update={"jitter": 0.5}), f"1:{name}", 3) for name in "abcdef"}
    assert len(varied) > 3
    assert all(2 <= delay <= 4 for delay in varied)


def rerun(book: Playbook, before: Driver, from_step: str | None = None, **payload: Any) -> Driver:
    driver = Driver(book, payload=payload, execution_id="2")
    driver.rerun_of(before, from_step)
    return driver


def test_a_rerun_takes_over_what_was_the_same_and_runs_the_rest() -> None:
    each = step("each", to("after"), loop=Loop(items=[1, 2, 3], element="item"), inputs={"n": "{{ item }}"})
    book = playbook(
        start(to("one")),
        step("one", to("each")),
        each,
        step("after", inputs={"k": "{{ workload.k }}"}),
        workload={"k": 1},
    )
    before = Driver(book, failing("each:1")).run()
    failed_only = rerun(book, before)
    assert [job.node_id for job in failed_only.enqueued] == ["2:each:1"]
    failed_only.finish()
    assert failed_only.log[-1].type == ev.EXECUTION_COMPLETED
    reused = [event.node_id for event in failed_only.log if (event.meta or {}).get("reused_from") == "1"]
    assert reused == ["2:one", "2:each:0", "2:each:2"]
    assert failed_only.replayed() == failed_only.state

    whole = Driver(book).run()
    assert [job.node_id for job in rerun(book, whole, k=2).finish().enqueued] == ["2:after"]
    anew = rerun(book, whole, from_step="each").finish()
    assert [job.node_id for job in anew.enqueued] == ["2:each:0", "2:each:1", "2:each:2", "2:after"]


def test_what_a_rerun_takes_over_inside_an_item_is_among_the_loops_results() -> None:
    book = playbook(
        start(to("each")),
        over("each", to("one"), items=[1, 2], end="close"),
        step("one", to("close"), inputs={"n": "{{ item }}"}),
        closes("each", to("end")),
        end("{{ each_results }}"),
    )
    before = Driver(book, lambda job: job.action["inputs"]["n"]).run()
    again = rerun(book, before).finish()
    assert again.enqueued == []
    assert again.result == before.result == [{"one": 1}, {"one": 2}]


def test_a_secret_is_a_mark_until_its_worker_resolves_it() -> None:
    http = Action(
        kind="http", arguments={"headers": {"A": "Bearer {{ token }}"}, "json": ["{{ secret.key }}", "{{ n }}"]}
    )
    call = step("call", inputs={"token": "{{ secret['t/1'] }}", "n": "⟦secret:key⟧"}).model_copy(
        update={"action": http}
    )
    driver = Driver(playbook(start(to("call")), call))
    driver.start()
    action = driver.jobs[0].action
    assert action["arguments"] == {"headers": {"A": "Bearer ⟦secret:t/1⟧"}, "json": ["⟦secret:key⟧", "⟦secret:key⟧"]}
    assert action["secrets"] == {
        "/arguments/headers/A": ["t/1"],
        "/arguments/json/0": ["key"],
        "/inputs/token": ["t/1"],
    }


@pytest.mark.parametrize("where", ["result", "when"])
def test_a_secret_is_seen_by_actions_only(where: str) -> None:
    if where == "result":
        driver = Driver(playbook(start(to("end")), end("{{ secret.key }}"))).run()
        assert driver.error["code"] == "template_error"
    else:
        driver = Driver(playbook(start(when("{{ secret.key }}", "end")), end())).run()
        assert any(event.type == ev.WARNING for event in driver.log)


@given(
    st.one_of(st.integers(0, 2**200), st.builds(lambda ones, gap: ((1 << ones) - 1) << gap, *[st.integers(0, 500)] * 2))
)
def test_a_bitmap_is_the_one_that_was_written(bits: int) -> None:
    assert decode_bits(encode_bits(bits)) == bits
