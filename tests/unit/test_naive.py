"""The naive interpreter on its own: small playbooks whose outcome follows from docs/language.md by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from catalog.domain.playbook import Action, Loop, Playbook, Retry, Step, Target, Transition
from tests.support.builders import default, end, playbook, start, step, to, when
from tests.support.naive import Outcome, interpret

UNDO = Action(kind="python", arguments={"code": "..."}, verbatim=("code",))


def run(*steps: Step, broken: tuple[str, ...] = (), answer: Callable[..., Any] | None = None, **fields: Any) -> Outcome:
    """The outcome of a playbook whose actions give their node, except the broken ones."""

    def plain(node: str, attempt: int, inputs: dict[str, Any]) -> Any:
        if node in broken or f"{node} try {attempt}" in broken:
            raise RuntimeError("boom")
        return answer(node, attempt, inputs) if answer is not None else node

    return interpret(playbook(*steps, **fields), plain)


def over(name: str, *entries: Transition, items: Any, **fields: Any) -> Step:
    """A loop over steps, closed by the step NAME_end."""
    options = {key: fields.pop(key) for key in ("mode", "concurrency", "filter") if key in fields}
    loop = Loop(items=items, element="item", end=f"{name}_end", on_error=fields.pop("items_fail", "fail"), **options)
    return step(name, *entries, action=False, loop=loop, **fields)


def closes(name: str, *transitions: Transition, **fields: Any) -> Step:
    return step(f"{name}_end", *transitions, action=False, end_loop=name, **fields)


def inline(name: str, *transitions: Transition, items: Any, **fields: Any) -> Step:
    options = {key: fields.pop(key) for key in tuple(fields) if key in Loop.model_fields}
    return step(name, *transitions, loop=Loop(items=items, element="item", **options), **fields)


def ran(outcome: Outcome) -> list[str]:
    return list(outcome.runs)


CONDITIONS: dict[str, tuple[tuple[Transition, ...], str, set[str]]] = {
    "every true condition": ((when("{{ true }}", "x"), when("{{ 1 }}", "y"), default("z")), "inclusive", {"x", "y"}),
    "the default when none": ((when("{{ false }}", "x"), default("z")), "inclusive", {"z"}),
    "an else of its own": ((when("{{ false }}", "x", otherwise=("y",)), when("{{ 1 }}", "z")), "inclusive", {"y", "z"}),
    "an else is no match": ((when("{{ false }}", "x", otherwise=("y",)), default("z")), "inclusive", {"y", "z"}),
    "always beside a condition": ((to("x"), when("{{ true }}", "y")), "inclusive", {"x", "y"}),
    "the first match only": ((when("{{ true }}", "x"), when("{{ true }}", "y")), "exclusive", {"x"}),
    "always beside the first": ((to("z"), when("{{ true }}", "x"), when("{{ true }}", "y")), "exclusive", {"x", "z"}),
    "a text that is false": ((when("{{ 'No' }}", "x"), default("y")), "inclusive", {"y"}),
    "an undefined name": ((when("{{ nothing.x }}", "x"), default("y")), "inclusive", {"y"}),
}


@pytest.mark.parametrize(("transitions", "mode", "taken"), CONDITIONS.values(), ids=CONDITIONS)
def test_transitions(transitions: tuple[Transition, ...], mode: Any, taken: set[str]) -> None:
    outcome = run(step("start", *transitions, action=False, next_mode=mode), step("x"), step("y"), step("z"))
    assert set(outcome.runs) == taken


def test_a_join_waits_for_live_branches_and_runs_once() -> None:
    outcome = run(start(to("a", "b")), step("a", to("join")), step("b", to("c")), step("c", to("join")), step("join"))
    assert ran(outcome) == ["a", "b", "c", "join"]


def test_a_join_of_any_takes_the_first_and_absorbs_the_rest() -> None:
    outcome = run(
        start(to("a", "b")), step("a", to("join")), step("b", to("c")), step("c", to("join")), step("join", join="any")
    )
    assert sorted(ran(outcome)) == ["a", "b", "c", "join"]
    assert ran(outcome).index("join") < ran(outcome).index("c")


def test_a_join_of_any_runs_again_for_a_branch_that_is_not_of_its_wave() -> None:
    steps = [step("a", to("join")), step("b", to("join")), step("join", to("again"), join="any")]
    outcome = run(start(to("a", "b")), *steps, step("again", when("{{ again == 'again' }}", "join")))
    assert ran(outcome) == ["a", "b", "join", "again", "join#2", "again#2"]


@pytest.mark.parametrize(("condition", "error"), [("{{ true }}", None), ("{{ false }}", "join_incomplete")])
def test_a_join_of_all_demands_every_predecessor(condition: str, error: str | None) -> None:
    outcome = run(
        start(to("a", "b")), step("a", to("join")), step("b", when(condition, "join")), step("join", join="all")
    )
    assert outcome.error_code == error


def test_going_back_is_a_new_visit_and_a_runaway_ends() -> None:
    outcome = run(start(to("a")), step("a", to("a")), max_visits=3)
    assert ran(outcome) == ["a", "a#2", "a#3"]
    assert (outcome.status, outcome.error_code, outcome.failing_step) == ("failed", "max_visits", "a")


def test_end_runs_once_and_gives_the_result() -> None:
    outcome = run(start(to("a")), step("a"), end({"a": "{{ a }}", "b": "{{ b | default('none') }}"}), step("b"))
    assert outcome.result == {"a": "a", "b": "none"}
    assert outcome.statuses == {"start": "success", "a": "success", "end": "success"}


SKIPS = [
    ({"skip_if": True}, "skipped"),
    ({"skip_if": "{{ nothing }}"}, "success"),
    ({"run_if": "{{ nothing }}"}, "skipped"),
]


@pytest.mark.parametrize(("fields", "status"), SKIPS)
def test_skips(fields: dict[str, Any], status: str) -> None:
    outcome = run(start(to("a")), step("a", to("b"), **fields), step("b"))
    assert (outcome.statuses["a"], outcome.statuses["b"]) == (status, "success")


FAILURES: dict[str, tuple[Step, dict[str, Any], str, list[str]]] = {
    "unhandled": (step("a", to("b")), {}, "failed", ["a"]),
    "a condition asks": (step("a", when("{{ a.status == 'error' }}", "b")), {}, "completed", ["a", "b"]),
    "its else is taken": (step("a", when("{{ a.error.code == 'x' }}", otherwise=("b",))), {}, "completed", ["a", "b"]),
    "nothing is taken": (step("a", when("{{ a.error.code == 'x' }}", "b")), {}, "failed", ["a"]),
    "continue": (step("a", to("b"), on_error="continue"), {}, "completed", ["a", "b"]),
    "route": (step("a", on_error="route", error_targets=(Target(step="b"),)), {}, "completed", ["a", "b"]),
    "the playbook's": (step("a"), {"on_error": (Target(step="b"),)}, "completed", ["a", "b"]),
    "tries": (step("a", to("b"), retry=Retry(max_attempts=2)), {}, "failed", ["a"]),
}


@pytest.mark.parametrize(("failing", "fields", "status", "nodes"), FAILURES.values(), ids=FAILURES)
def test_failures(failing: Step, fields: dict[str, Any], status: str, nodes: list[str]) -> None:
    outcome = run(start(to("a")), failing, step("b"), broken=("a",), **fields)
    assert (outcome.status, ran(outcome)) == (status, nodes)
    assert outcome.error_code == ("boom" if status == "failed" else None)


def test_a_second_try_goes_well() -> None:
    outcome = run(start(to("a")), step("a", retry=Retry(max_attempts=3)), broken=("a try 1",))
    assert (outcome.status, outcome.runs) == ("completed", {"a": 2})


def test_the_playbooks_handlers_do_not_handle_themselves() -> None:
    fields: dict[str, Any] = {"on_error": (Target(step="h"),)}
    outcome = run(start(to("a")), step("a"), step("h"), broken=("a", "h"), **fields)
    assert (outcome.status, outcome.failing_step) == ("failed", "h")


def test_undo_runs_backwards_over_what_was_completed() -> None:
    steps = [step("a", to("b"), undo=UNDO), step("b", to("c"), undo=UNDO), step("c", to("d")), step("d", undo=UNDO)]
    outcome = run(start(to("a")), *steps, broken=("d", "b#undo"))
    assert ran(outcome) == ["a", "b", "c", "d", "b#undo", "a#undo"]
    assert (outcome.status, outcome.failing_step) == ("failed", "d")


FINALLY = [((), "completed", None), (("a",), "failed", "a"), (("f",), "failed", "f"), (("a", "f"), "failed", "a")]


@pytest.mark.parametrize(("broken", "status", "failing"), FINALLY)
def test_finally_runs_however_it_ends(broken: tuple[str, ...], status: str, failing: str | None) -> None:
    outcome = run(start(to("a")), step("a"), step("f", to("g")), step("g"), finally_steps=("f",), broken=broken)
    assert (outcome.status, outcome.failing_step) == (status, failing)
    assert ("f" in outcome.runs, "g" in outcome.runs) == (True, "f" not in broken)


def collected(answer: Any = None, **loop: Any) -> Any:
    book = [inline("each", to("end"), inputs={"item": "{{ item }}"}, **loop), end("{{ each.results }}")]
    return run(start(to("each")), *book, answer=lambda node, attempt, inputs: inputs["item"]).result


COLLECTIONS: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, [3, 1, 2]),
    ({"filter": "{{ item > 1 }}"}, [3, 2]),
    ({"order_by": "{{ item }}"}, [1, 2, 3]),
    ({"order_by": "{{ item }}", "limit": 2}, [1, 2]),
    ({"filter": "{{ item != 1 }}", "order_by": "{{ item }}", "limit": "{{ 1 + 1 }}", "chunk": 3}, [[2, 3]]),
    ({"chunk": 2}, [[3, 1], [2]]),
    ({"mode": "sequential"}, [3, 1, 2]),
    ({"concurrency": 2}, [3, 1, 2]),
]


@pytest.mark.parametrize(("options", "results"), COLLECTIONS)
def test_items(options: dict[str, Any], results: list[Any]) -> None:
    assert collected(items=[3, 1, 2], **options) == results
    assert collected(items="[3, 1, 2]", **options) == results


def test_an_item_that_fails_stops_the_loop_or_does_not() -> None:
    def each(on_error: Any) -> Outcome:
        loop = inline("each", to("end"), items=[1, 2, 3], mode="sequential", on_error=on_error)
        result = {"results": "{{ each.results }}", "at": "{{ each.errors | map(attribute='index') | list }}"}
        return run(start(to("each")), loop, end(result), broken=("each:1",))

    stopped, went_on = each("fail"), each("continue")
    assert (stopped.error_code, ran(stopped)) == ("loop_item_failed", ["each:0", "each:1"])
    assert went_on.result == {"results": ["each:0", None, "each:2"], "at": [1]}


def body(**fields: Any) -> list[Step]:
    """Each item looks, and an item over 1 does more; both ways lead to the loop's end."""
    return [
        start(to("each")),
        over("each", to("look"), items=[1, 2], **fields),
        step("look", when("{{ item > 1 }}", "more"), default("each_end")),
        step("more", to("each_end")),
        closes("each", to("end"), result={"all": "{{ each_results }}", "n": "{{ each.count }}"}),
        end("{{ each_end }}"),
    ]


def test_each_item_goes_its_own_way() -> None:
    outcome = run(*body())
    assert outcome.result == {"all": [{"look": "look:0", "more": None}, {"look": "look:1", "more": "more:1"}], "n": 2}
    assert ran(outcome) == ["look:0", "look:1", "more:1"]


def test_an_item_that_fails_drops_its_own_work_only() -> None:
    outcome = run(*body(items_fail="continue"), broken=("look:0",))
    assert outcome.status == "completed"
    assert outcome.result["all"] == [{"look": None, "more": None}, {"look": "look:1", "more": "more:1"}]
    failed = run(*body(), broken=("look:0",))
    assert (failed.error_code, failed.failing_step) == ("loop_item_failed", "each")
    assert ran(failed) == ["look:0", "look:1", "more:1"]


def test_a_loop_over_nothing_leads_to_its_end() -> None:
    outcome = run(start(to("each")), over("each", to("a"), items=[]), step("a", to("each_end")), closes("each"))
    assert outcome.statuses == {"start": "success", "each": "success", "each_end": "success"}


def nested() -> Playbook:
    inner = Loop(items="{{ row }}", element="cell", end="inner_end")
    outer = Loop(items=[[1, 2], []], element="row", end="outer_end")
    return playbook(
        start(to("outer")),
        step("outer", to("inner"), action=False, loop=outer),
        step("inner", to("cell_step"), action=False, loop=inner),
        step("cell_step", to("inner_end"), inputs={"cell": "{{ cell }}", "row": "{{ row }}"}),
        step("inner_end", to("outer_end"), action=False, end_loop="inner"),
        step("outer_end", when("{{ again | default(true) }}", "outer"), action=False, end_loop="outer"),
        end("{{ outer.results }}"),
        max_visits=2,
    )


def test_loops_nest_and_every_visit_has_node_ids_of_its_own() -> None:
    seen: dict[str, Any] = {}
    outcome = interpret(nested(), lambda node, attempt, inputs: seen.setdefault(node, inputs))
    assert seen["cell_step:0:1"] == {"cell": 2, "row": [1, 2]}
    assert list(seen) == ["cell_step:0:0", "cell_step:0:1", "cell_step:0:0#5", "cell_step:0:1#5"]
    assert outcome.error_code == "max_visits"


def test_inputs_handed_over_win_over_the_steps_own_and_come_along() -> None:
    seen: dict[str, Any] = {}
    steps = [step("a", to("b"), inputs={"x": "own", "y": "{{ x }}"}), step("b", inputs={"x": "{{ x }}"})]
    interpret(playbook(start(to("a", x="handed")), *steps), lambda node, attempt, inputs: seen.setdefault(node, inputs))
    assert seen == {"a": {"x": "handed", "y": "handed"}, "b": {"x": "handed"}}
