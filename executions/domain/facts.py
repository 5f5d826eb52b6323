"""Facts: what the shell loads for the planner, and nothing else may reach it.

Knows which stored values a plan will most likely read (`expected`); loading is the shell's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Playbook, targets_of
from executions.domain import events as ev
from executions.domain.aggregates import trees_of_loop
from executions.domain.events import Event
from executions.domain.fold import place_of
from executions.domain.results import StepResult
from executions.domain.state import State
from executions.domain.wanted import FrameKey, Wanted
from executions.errors import ImpossibleEvent


@dataclass(frozen=True, slots=True)
class Recorded:
    """A success that an earlier execution recorded at a node: the work as it was asked for, and its result."""

    work: dict[str, Any]
    data: Any


@dataclass(slots=True)
class Facts:
    """What the planner may know beside the playbook, the state and the event.

    `recorded_at` is the database's time of the evaluation, RFC 3339. `env` holds the allowed names only. The rest is
    what `Wanted` names: `results` by node id (of loops: without data), `trees` the outcomes below a prefix,
    `transitions` by seq `{target step: {input: value}}`, `items` by (node, index), `signals` by seq, `frames` as
    stored (None: there is none), `completed` (None: not asked for), `catalog` paths by prefix, `recorded` successes
    of the execution that this one reruns (None: there is none), `kept` by seq.
    """

    execution_id: str
    recorded_at: str
    workload: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict)
    results: dict[str, StepResult] = field(default_factory=dict)
    trees: dict[str, dict[str, StepResult]] = field(default_factory=dict)
    transitions: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    items: dict[tuple[str, int], Any] = field(default_factory=dict)
    signals: dict[int, Any] = field(default_factory=dict)
    frames: dict[FrameKey, Mapping[str, Any] | None] = field(default_factory=dict)
    all_frames: bool = False
    completed: list[str] | None = None
    catalog: dict[str, list[str]] = field(default_factory=dict)
    recorded: dict[str, Recorded | None] = field(default_factory=dict)
    kept: dict[int, Any] = field(default_factory=dict)

    def missing(self, wanted: Wanted) -> Wanted:
        """What is wanted and not yet known."""
        return Wanted(
            results=wanted.results - self.results.keys(),
            trees=wanted.trees - self.trees.keys(),
            transitions=wanted.transitions - self.transitions.keys(),
            items=wanted.items - self.items.keys(),
            signals=wanted.signals - self.signals.keys(),
            frames=wanted.frames - self.frames.keys(),
            all_frames=wanted.all_frames and not self.all_frames,
            completed=wanted.completed and self.completed is None,
            catalog=wanted.catalog - self.catalog.keys(),
            recorded=wanted.recorded - self.recorded.keys(),
            kept=wanted.kept - self.kept.keys(),
        )


def known_from(news: Iterable[Event], facts: Facts) -> None:
    """Add the results that have just come in, and those signals."""
    for event in news:
        if event.type in ev.OUTCOMES:
            facts.results[event.node_id] = outcome_of(event)
        elif event.type == ev.SIGNAL_RECEIVED:
            facts.signals[event.seq] = event.context["data"]


def outcome_of(event: Event) -> StepResult:
    """What an outcome's event says."""
    well = event.type == ev.ACTION_COMPLETED or (event.type == ev.CHILD_COMPLETED and event.status == "success")
    return StepResult("success", event.result) if well else StepResult("error", event.result, event.error)


def expected(playbook: Playbook, state: State, execution_id: str, news: Iterable[Event]) -> Wanted:
    """The stored results that planning after these events will most likely read.

    A hint that saves a second round: what it leaves out the plan asks for with `MissingFacts`.
    """
    wanted = Wanted()
    for event in news:
        if event.type not in ev.OUTCOMES:
            continue
        try:
            place = place_of(playbook, event)
        except ImpossibleEvent:
            continue
        wanted.frames.update(place.key[:depth] for depth in range(2, len(place.key) + 1, 2))
        if place.item is None and not place.key:
            _expect_after(playbook, state, execution_id, place.step, wanted)
    wanted.frames -= state.frames.keys()
    return wanted


def _expect_after(playbook: Playbook, state: State, execution_id: str, index: int, wanted: Wanted) -> None:
    """What the step's `next` and the starts of the steps after it read, of the workflow's own steps."""
    step = playbook.steps[index]
    names = set(step.next_reads)
    for target in targets_of(step):
        names.update(playbook.steps[playbook.index_by_name[target.step]].start_reads)
    for name in names:
        want_result(playbook, state, execution_id, (), name, wanted)


def want_result(
    playbook: Playbook, state: State, execution_id: str, path: tuple[int, ...], name: str, wanted: Wanted
) -> None:
    """Add the stored result of the step called `name`, as seen from inside the items of `path`, when it has one."""
    index = playbook.index_by_name.get(name)
    if index is None:
        return
    around = playbook.enclosing[index]
    if len(around) > len(path):
        return
    key = tuple(part for pair in zip(around, path, strict=False) for part in pair)
    frame = state.frames.get(key)
    if frame is None or not frame.has_result(index) or frame.skipped >> index & 1:
        return
    step = playbook.steps[index]
    if step.loop is None and not (step.gives_result or step.saves):
        return
    node_id = ev.step_node_id(execution_id, name, frame.number(index), path[: len(around)])
    wanted.results.add(node_id)
    if step.loop is not None:
        wanted.trees.update(trees_of_loop(playbook, execution_id, index, path[: len(around)]))
