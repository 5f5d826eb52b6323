"""Facts: what the shell loads for the planner, and nothing else may reach it.

Knows which stored values a plan will most likely read (`expected`), and how a plan asks for one that was not
loaded (`MissingFacts`); loading is the shell's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Playbook, Step
from executions.domain import events as ev
from executions.domain.results import StepResult
from executions.domain.state import State


@dataclass(slots=True)
class Wanted:
    """Stored values to load: results by node id, transition inputs by seq, loop items by node id."""

    results: set[str] = field(default_factory=set)
    loops: set[str] = field(default_factory=set)
    transitions: set[int] = field(default_factory=set)
    items: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.results or self.loops or self.transitions or self.items)


class MissingFacts(Exception):
    """The plan needs more stored values: load them and plan again from the same state."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        super().__init__(str(wanted))


@dataclass(slots=True)
class Facts:
    """What the planner may know beside the playbook, the state and the event.

    `recorded_at` is the database's time of the evaluation, RFC 3339. `results` are by node id of a step, those of
    loops without data; `loops` are the outcomes of a loop's items by index; `transitions` are, by seq, `{target step:
    {input: value}}`; `items` are a running loop's items by the node id of its step. `env` holds the allowed names only.
    """

    execution_id: str
    recorded_at: str
    workload: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict)
    results: dict[str, StepResult] = field(default_factory=dict)
    loops: dict[str, dict[int, StepResult]] = field(default_factory=dict)
    transitions: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    items: dict[str, list[Any]] = field(default_factory=dict)


def expected(playbook: Playbook, state: State, execution_id: str, ended_steps: Iterable[str]) -> Wanted:
    """The stored results that planning the end of these steps will most likely read.

    A hint that saves a second round: what it leaves out the plan asks for with `MissingFacts`.
    """
    wanted = Wanted()
    for name in ended_steps:
        step = playbook.steps[playbook.index_by_name[name]]
        names = set(step.next_reads)
        for target in targets_of(step):
            names.update(playbook.steps[playbook.index_by_name[target]].start_reads)
        for read in names:
            want_result(playbook, state, execution_id, read, wanted)
    return wanted


def targets_of(step: Step) -> set[str]:
    """The steps that a step's `next` can lead to."""
    return {target.step for item in step.next for target in (*item.then, *item.otherwise)}


def want_result(playbook: Playbook, state: State, execution_id: str, name: str, wanted: Wanted) -> None:
    """Add the stored result of the step called `name` to `wanted`, when it has one."""
    index = playbook.index_by_name.get(name)
    if index is None or not state.has_result(index) or state.skipped >> index & 1:
        return
    step = playbook.steps[index]
    if step.action is None and step.result is None:
        return
    node_id = ev.step_node_id(execution_id, name, state.visit(index))
    (wanted.loops if step.loop is not None else wanted.results).add(node_id)
