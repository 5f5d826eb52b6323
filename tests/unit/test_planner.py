"""What the planner decides, rule by rule of docs/language.md."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.domain.playbook import Loop
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.jobs import EnqueueJob
from executions.errors import ImpossibleEvent
from tests.support.builders import default, end, playbook, start, step, to, when
from tests.support.driver import Driver


def answers(**by_step: Any) -> Any:
    """Actions that give these values, by step; a function is called with the job, an exception is raised."""

    def answer(job: EnqueueJob) -> Any:
        value = by_step.get(job.step)
        if isinstance(value, Exception):
            raise value
        return value(job) if callable(value) else value

    return answer


def inputs_of(driver: Driver, name: str) -> Any:
    return [job.action["inputs"] for job in driver.enqueued if job.step == name]


def test_a_chain_runs_in_order_and_end_sums_it_up() -> None:
    book = playbook(
        start(to("a")),
        step("a", to("b")),
        step("b", to("end"), inputs={"n": "{{ a.n }}"}),
        end({"n": "{{ a.n }}", "b": "{{ b }}"}),
    )
    driver = Driver(book, answers(a={"n": 3}, b="done")).run()
    assert inputs_of(driver, "b") == [{"n": 3}]
    assert driver.state.status == "completed"
    assert driver.result == {"n": 3, "b": "done"}
    assert driver.statuses() == {"start": "success", "a": "success", "b": "success", "end": "success"}


def test_every_true_condition_fires_and_the_default_only_when_none_did() -> None:
    def book(value: int) -> Driver:
        steps = playbook(
            start(to("a")),
            step("a", when("{{ a.n > 1 }}", "big"), when("{{ a.n > 10 }}", "huge"), default("small")),
            step("big"),
            step("huge"),
            step("small"),
        )
        return Driver(steps, answers(a={"n": value})).run()

    assert set(book(100).statuses()) == {"start", "a", "big", "huge"}
    assert set(book(5).statuses()) == {"start", "a", "big"}
    assert set(book(0).statuses()) == {"start", "a", "small"}


def test_exclusive_takes_the_first_match_only() -> None:
    book = playbook(
        start(to("a")),
        step("a", when("{{ true }}", "x"), when("{{ true }}", "y"), next_mode="exclusive"),
        step("x"),
        step("y"),
    )
    assert set(Driver(book).run().statuses()) == {"start", "a", "x"}


def test_an_else_belongs_to_its_own_item() -> None:
    book = playbook(
        start(to("a")),
        step("a", when("{{ false }}", "x", otherwise=("y",)), when("{{ true }}", "z")),
        step("x"),
        step("y"),
        step("z"),
    )
    assert set(Driver(book).run().statuses()) == {"start", "a", "y", "z"}


def test_a_failing_condition_is_false_and_warns() -> None:
    book = playbook(start(to("a")), step("a", when("{{ a.n > 1 }}", "x"), default("y")), step("x"), step("y"))
    driver = Driver(book, answers(a={"n": "text"})).run()
    assert "x" not in driver.statuses()
    [warning] = [event for event in driver.log if event.type == ev.WARNING]
    assert warning.context["expression"] == "{{ a.n > 1 }}"
    assert "not supported" in warning.error["message"]


def test_a_transition_tells_expression_value_and_operands() -> None:
    book = playbook(start(to("a")), step("a", when("{{ a.n > limit }}", "x")), step("x"), workload={"limit": 2})
    driver = Driver(book, answers(a={"n": 3})).run()
    [event] = [e for e in driver.log if e.type == ev.TRANSITION_EVALUATED and e.node_name == "a"]
    [item] = event.context["items"]
    assert item["value"] is True
    assert item["operands"] == {"a.n": 3, "limit": 2}


@pytest.mark.parametrize("order", [0, -1])
def test_a_join_runs_once_after_all_its_branches(order: int) -> None:
    book = playbook(
        start(to("a", "b")),
        step("a", to("join")),
        step("b", to("c")),
        step("c", to("join")),
        step("join", to("end"), inputs={"a": "{{ a.n }}", "c": "{{ c.n }}"}),
        end(),
    )
    driver = Driver(book, answers(a={"n": 1}, c={"n": 2}), pick=lambda count: order % count).run()
    assert inputs_of(driver, "join") == [{"a": 1, "c": 2}]


def test_a_join_does_not_wait_for_a_branch_that_was_not_taken() -> None:
    book = playbook(
        start(to("a")),
        step("a", when("{{ a.left }}", "left"), default("right")),
        step("left", to("join")),
        step("right", to("join")),
        step("join"),
    )
    driver = Driver(book, answers(a={"left": True})).run()
    assert driver.statuses()["join"] == "success"
    assert "right" not in driver.statuses()


def test_a_join_does_not_wait_for_a_branch_that_cannot_reach_it() -> None:
    book = playbook(start(to("slow", "a")), step("slow"), step("a", to("join")), step("join", to("end")), end())
    driver = Driver(book, pick=lambda count: count - 1)
    driver.start()
    slow, first = driver.jobs
    driver.report(first)
    assert [job.step for job in driver.jobs] == ["slow", "a", "join"]
    assert slow.step == "slow"


def test_inputs_of_a_transition_reach_its_target_and_later_steps() -> None:
    book = playbook(
        start(to("a", mode="fast")),
        step("a", to("b"), inputs={"mode": "slow", "own": "{{ mode }}"}),
        step("b", inputs={"seen": "{{ mode }}"}),
    )
    driver = Driver(book).run()
    assert inputs_of(driver, "a") == [{"mode": "fast", "own": "fast"}]
    assert inputs_of(driver, "b") == [{"seen": "fast"}]


@pytest.mark.parametrize("order", [0, -1])
def test_where_branches_meet_the_later_in_file_order_wins(order: int) -> None:
    book = playbook(start(to("a", "b")), step("a", to("join", x="a")), step("b", to("join", x="b")), step("join"))
    driver = Driver(book, pick=lambda count: order % count).run()
    assert inputs_of(driver, "join") == [{"x": "b"}]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"skip_if": "{{ workload.skip }}"}, "pass=true"), ({"run_if": "{{ not workload.skip }}"}, "when=false")],
)
def test_a_skipped_step_enqueues_nothing_and_its_next_is_taken(fields: dict[str, Any], reason: str) -> None:
    book = playbook(
        start(to("a")), step("a", to("b"), **fields), step("b", inputs={"a": "{{ a }}"}), workload={"skip": True}
    )
    driver = Driver(book).run()
    [skip] = [event for event in driver.log if event.type == ev.STEP_SKIP]
    assert skip.meta["reason"] == reason
    assert skip.context["expression"] == next(iter(fields.values()))
    assert driver.statuses() == {"start": "success", "a": "skipped", "b": "success"}
    assert inputs_of(driver, "b") == [{"a": None}]


def test_an_undefined_pass_means_not_skipped() -> None:
    book = playbook(start(to("a")), step("a", skip_if="{{ workload.steps.a }}"))
    assert Driver(book).run().statuses()["a"] == "success"


def test_end_runs_once_at_quiescence_when_no_branch_reached_it() -> None:
    book = playbook(start(to("a", "b")), step("a"), step("b"), end({"a": "{{ a.n }}"}))
    driver = Driver(book, answers(a={"n": 1})).run()
    assert driver.result == {"a": 1}
    assert [event.meta for event in driver.log if event.type == ev.STEP_STARTED][-1] == {"reason": "quiescence"}


def test_a_failed_action_fails_the_execution_with_its_cause() -> None:
    book = playbook(start(to("a", "b")), step("a", to("end")), step("b", to("end")), end())
    driver = Driver(book, answers(a=RuntimeError("no such thing"))).run()
    assert driver.state.status == "failed"
    assert driver.error == {"code": "boom", "message": "no such thing", "step": "a", "node_id": "1:a"}
    assert "end" not in driver.statuses()


def test_a_condition_on_the_status_handles_a_failure() -> None:
    book = playbook(
        start(to("a")),
        step("a", when("{{ a.status == 'error' }}", "mend"), default("go_on")),
        step("mend", inputs={"why": "{{ a.error.message }}"}),
        step("go_on"),
    )
    driver = Driver(book, answers(a=RuntimeError("broken"))).run()
    assert driver.state.status == "completed"
    assert inputs_of(driver, "mend") == [{"why": "broken"}]


def test_a_failure_that_no_branch_takes_is_not_handled() -> None:
    book = playbook(start(to("a")), step("a", when("{{ a.error.code == 'other' }}", "mend")), step("mend"))
    assert Driver(book, answers(a=RuntimeError("broken"))).run().state.status == "failed"


def test_a_template_that_cannot_be_rendered_fails_its_step() -> None:
    book = playbook(start(to("a")), step("a", inputs={"x": "{{ nothing.at.all }}"}))
    driver = Driver(book).run()
    assert driver.statuses()["a"] == "error"
    assert driver.error["code"] == "template_error"
    assert driver.error["template"] == "{{ nothing.at.all }}"
    assert "'nothing' is undefined" in driver.error["message"]


@pytest.mark.parametrize("order", [0, -1])
def test_a_loop_keeps_its_results_in_the_order_of_its_items(order: int) -> None:
    book = playbook(
        start(to("each")),
        step("each", to("end"), loop=Loop(items="{{ workload.items }}", element="item"), inputs={"n": "{{ item }}"}),
        end({"results": "{{ each.results }}", "count": "{{ each.count }}", "errors": "{{ each.errors }}"}),
        workload={"items": [3, 0, None, 5]},
    )
    driver = Driver(book, lambda job: job.action["inputs"]["n"], pick=lambda count: order % count).run()
    assert driver.result == {"results": [3, 0, None, 5], "count": 4, "errors": []}


def test_a_loop_over_nothing_completes_at_once() -> None:
    book = playbook(
        start(to("each")),
        step("each", to("end"), loop=Loop(items=[], element="item")),
        end({"results": "{{ each.results }}"}),
    )
    assert Driver(book).run().result == {"results": []}


def test_a_filter_leaves_items_out() -> None:
    loop = Loop(items=[1, 2, 3, 4], element="n", filter="{{ n is even }}")
    book = playbook(start(to("each")), step("each", loop=loop, inputs={"n": "{{ n }}", "i": "{{ _loop.index }}"}))
    assert inputs_of(Driver(book).run(), "each") == [{"n": 2, "i": 0}, {"n": 4, "i": 1}]


def test_a_sequential_loop_has_one_item_in_flight() -> None:
    loop = Loop(items=[1, 2, 3], element="n", mode="sequential")
    book = playbook(start(to("each")), step("each", loop=loop, inputs={"n": "{{ n }}"}))
    driver = Driver(book)
    driver.start()
    seen = []
    while driver.jobs:
        assert len(driver.jobs) == 1
        seen.append(driver.jobs[0].index)
        driver.report(driver.jobs.pop())
    assert seen == [0, 1, 2]


def test_concurrency_bounds_the_items_in_flight() -> None:
    loop = Loop(items=list(range(10)), element="n", concurrency=3)
    driver = Driver(playbook(start(to("each")), step("each", loop=loop)), pick=lambda count: count - 1)
    driver.start()
    most = 0
    while driver.jobs:
        most = max(most, len(driver.jobs))
        driver.report(driver.jobs.pop())
    assert (most, driver.state.status) == (3, "completed")


def test_a_failed_item_fails_the_loop_after_the_running_ones() -> None:
    loop = Loop(items=[0, 1, 2, 3], element="n", concurrency=2)

    def fail_second(job: EnqueueJob) -> Any:
        if job.index == 1:
            raise RuntimeError("item broke")

    driver = Driver(
        playbook(start(to("each")), step("each", loop=loop)), fail_second, pick=lambda count: count - 1
    ).run()
    assert driver.state.status == "failed"
    assert driver.error["index"] == 1
    assert len(driver.enqueued) == 2


def test_a_loop_that_continues_tells_its_errors() -> None:
    loop = Loop(items=[1, 0, 2], element="n", on_error="continue")
    book = playbook(
        start(to("each")),
        step("each", to("end"), loop=loop, inputs={"n": "{{ 10 // n }}"}),
        end({"results": "{{ each.results }}", "errors": "{{ each.errors }}"}),
    )
    driver = Driver(book, lambda job: job.action["inputs"]["n"]).run()
    assert driver.result["results"] == [10, None, 5]
    [error] = driver.result["errors"]
    assert error["index"] == 1
    assert "zero" in error["message"]


@pytest.mark.parametrize("items", [{"a": 1}, 3, "no list", None])
def test_a_collection_that_is_no_list_fails_the_step(items: Any) -> None:
    book = playbook(
        start(to("each")), step("each", loop=Loop(items="{{ workload.items }}", element="n")), workload={"items": items}
    )
    driver = Driver(book).run()
    assert driver.error["code"] == "loop_not_a_list"


def test_a_text_that_holds_a_json_list_is_a_collection() -> None:
    book = playbook(start(to("each")), step("each", loop=Loop(items="[1, 2]", element="n"), inputs={"n": "{{ n }}"}))
    assert inputs_of(Driver(book).run(), "each") == [{"n": 1}, {"n": 2}]


def test_going_back_is_a_new_visit_whose_result_counts() -> None:
    book = playbook(
        start(to("a")),
        step("a", when("{{ a.n < 3 }}", "a"), default("end")),
        end({"n": "{{ a.n }}"}),
    )
    count = iter(range(1, 10))
    driver = Driver(book, lambda job: {"n": next(count)}).run()
    assert driver.result == {"n": 3}
    assert [job.node_id for job in driver.enqueued] == ["1:a", "1:a#2", "1:a#3"]


def test_a_runaway_ends_with_an_error() -> None:
    book = playbook(start(to("a")), step("a", to("a")), max_visits=5)
    driver = Driver(book).run()
    assert driver.error["code"] == "max_visits"
    assert len(driver.enqueued) == 5


def test_data_is_never_a_template() -> None:
    trap = "{{ workload.secret }} {% raw %}"
    book = playbook(
        start(to("a")),
        step("a", to("b", handed="{{ a.text }}")),
        step("b", to("end"), inputs={"text": "{{ a.text }}", "again": "{{ handed }}"}),
        end("{{ b.text }}"),
        workload={"secret": "s3cret"},
    )
    driver = Driver(book, answers(a={"text": trap}, b={"text": trap}), payload={"other": trap}).run()
    assert inputs_of(driver, "b") == [{"handed": trap, "text": trap, "again": trap}]
    assert driver.result == trap


def test_planning_again_changes_nothing() -> None:
    book = playbook(start(to("a")), step("a", to("end")), end())
    driver = Driver(book).run()
    with pytest.raises(ImpossibleEvent):
        driver.happen(Event(driver.state.seq, ev.ACTION_COMPLETED, "1:a", "a", ev.NODE_STEP))


def test_an_outcome_of_a_step_that_is_not_running_is_impossible() -> None:
    driver = Driver(playbook(start(to("a")), step("a"), step("b")))
    driver.start()
    with pytest.raises(ImpossibleEvent):
        driver.happen(Event(driver.state.seq + 1, ev.ACTION_COMPLETED, "1:b", "b", ev.NODE_STEP))


def test_what_was_handed_to_a_join_wins_over_what_came_along() -> None:
    book = playbook(start(to("a", "b", x="old")), step("a", to("join", x="new")), step("b", to("join")), step("join"))
    assert inputs_of(Driver(book).run(), "join") == [{"x": "new"}]


def test_a_loop_that_fails_starts_no_further_items() -> None:
    loop = Loop(items=[0, 1, 2, 3], element="n")
    book = playbook(start(to("each")), step("each", loop=loop, inputs={"n": "{{ 1 // n }}"}))
    driver = Driver(book).run()
    assert (driver.state.status, driver.enqueued) == ("failed", [])


def test_everything_a_template_reads_is_asked_for_at_once() -> None:
    names = [f"s{number}" for number in range(150)]
    steps = [step(name, to("end", **{f"input_{name}": name})) for name in names]
    book = playbook(
        start(to(*names)),
        *steps,
        end({name: f"{{{{ {name}.n }}}}{{{{ input_{name} }}}}" for name in names}),
    )
    driver = Driver(book, lambda job: {"n": job.step})
    driver.start()
    while len(driver.jobs) > 1:
        driver.report(driver.jobs.pop())
    driver.loads = 0
    driver.report(driver.jobs.pop())
    assert driver.result == {name: name * 2 for name in names}
    assert driver.loads <= 3
