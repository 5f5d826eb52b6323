"""The planner's laws, for generated playbooks and generated orders of arrival."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.domain.playbook import Loop, Playbook, Step, Transition
from executions.domain import events as ev
from executions.domain.jobs import EnqueueJob
from executions.domain.state import decode, encode, replay
from tests.support.builders import default, end, playbook, start, step, to, when
from tests.support.driver import Driver

LOOPS = (
    None,
    Loop(items=[], element="item"),
    Loop(items=[1, 2, 3], element="item"),
    Loop(items="{{ workload.items }}", element="item", mode="sequential"),
    Loop(items="{{ workload.items }}", element="item", concurrency=2, on_error="continue"),
)


@st.composite
def playbooks(draw: st.DrawFn) -> Playbook:
    """An acyclic playbook of routing steps, actions and loops; every transition leads further down the file."""
    count = draw(st.integers(1, 7))
    names = [f"s{number}" for number in range(count)]
    steps = [start(*_transitions(draw, names))]
    for number, name in enumerate(names):
        steps.append(_step(draw, name, names[:number], [*names[number + 1 :], "end"]))
    return playbook(
        *steps,
        end({name: f"{{{{ steps.{name}.status | default(none) }}}}" for name in names}),
        workload={"items": [1, 2, 3, 4, 5]},
    )


def _step(draw: st.DrawFn, name: str, before: list[str], after: list[str]) -> Step:
    inputs: dict[str, Any] = {}
    if len(before) > 0 and draw(st.booleans()):
        seen = draw(st.sampled_from(before))
        inputs["seen"] = f"{{{{ {seen}.n | default('none') }}}}"
    loop = draw(st.sampled_from(LOOPS))
    skip = draw(st.sampled_from([None, None, None, True]))
    action = loop is not None or draw(st.integers(0, 3)) > 0
    return step(name, *_transitions(draw, after), action=action, loop=loop, skip_if=skip, inputs=inputs)


def _transitions(draw: st.DrawFn, after: list[str]) -> list[Transition]:
    chosen: list[Transition] = []
    for _ in range(draw(st.integers(0, 3))):
        targets = draw(st.lists(st.sampled_from(after), min_size=1, max_size=3, unique=True))
        kind = draw(st.sampled_from(["always", "true", "false", "else", "default"]))
        if kind == "always":
            chosen.append(to(*targets, given=draw(st.integers(0, 3))))
        elif kind == "default":
            chosen.append(default(*targets))
        else:
            condition = "{{ true }}" if kind == "true" else "{{ 1 > 2 }}"
            chosen.append(when(condition, *targets, otherwise=tuple(targets) if kind == "else" else ()))
    return chosen


def answer(job: EnqueueJob) -> Any:
    return {"n": [job.node_id, job.action["inputs"]]}


def broken(job: EnqueueJob) -> Any:
    """Every node's fate depends on its name alone, whatever the order."""
    if sum(job.node_id.encode()) % 5 == 0:
        raise RuntimeError("broken")
    return answer(job)


orders = st.lists(st.integers(0, 1000), min_size=1, max_size=20)


def run(book: Playbook, order: list[int], answers: Any = answer) -> Driver:
    turns = iter(order * 1000)
    return Driver(book, answers, pick=lambda count: next(turns) % count).run()


@settings(max_examples=300, deadline=None)
@given(playbooks(), orders)
def test_every_execution_ends_once_and_forgets_nothing(book: Playbook, order: list[int]) -> None:
    driver = run(book, order)
    assert sum(event.type in ev.TERMINAL for event in driver.log) == 1
    assert driver.log[-1].type == ev.EXECUTION_COMPLETED
    assert driver.state.root.is_quiet()
    assert "end" in driver.statuses()


@settings(max_examples=300, deadline=None)
@given(playbooks(), orders)
def test_a_replay_gives_the_same_state_whole_or_in_parts(book: Playbook, order: list[int]) -> None:
    driver = run(book, order, broken)
    index = book
    assert driver.replayed() == driver.state
    cut = order[0] % len(driver.log)
    half = decode(encode(replay(driver.log[:cut], index)))
    assert replay(driver.log[cut:], index, half) == driver.state


@settings(max_examples=300, deadline=None)
@given(playbooks(), orders)
def test_each_node_is_scheduled_once_and_seqs_are_dense(book: Playbook, order: list[int]) -> None:
    driver = run(book, order, broken)
    nodes = Counter(job.node_id for job in driver.enqueued)
    assert set(nodes.values()) <= {1}
    starts = Counter(e.node_id for e in driver.log if e.type in (ev.STEP_STARTED, ev.STEP_SKIP))
    assert set(starts.values()) <= {1}
    assert [event.seq for event in driver.log] == list(range(1, len(driver.log) + 1))


@settings(max_examples=300, deadline=None)
@given(playbooks(), orders, orders)
def test_the_order_of_arrival_does_not_matter(book: Playbook, one: list[int], other: list[int]) -> None:
    first, second = run(book, one), run(book, other)
    assert first.statuses() == second.statuses()
    assert first.result == second.result
    assert {job.node_id: job.action for job in first.enqueued} == {job.node_id: job.action for job in second.enqueued}


@settings(max_examples=100, deadline=None)
@given(playbooks(), orders)
def test_planning_is_deterministic(book: Playbook, order: list[int]) -> None:
    assert run(book, order, broken).log == run(book, order, broken).log
