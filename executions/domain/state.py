"""The state of an execution: a fold of its events.

Knows which steps are waiting, running and over, by their place in the playbook; holds no results and
no rendered values. `apply` neither renders nor plans, and raises on an event that cannot happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from executions.domain import events as ev
from executions.domain.events import Event
from executions.errors import ImpossibleEvent

FORMAT = 1
"""Version of the stored form. Another one in the database means: rebuild from the log."""

Status = Literal["pending", "running", "completed", "failed", "cancelled"]
Scope = dict[str, tuple[int, int]]
"""Transition inputs a step sees: name -> (seq of the transition event, place of the target step)."""

TERMINAL_STATUS: dict[str, Status] = {
    ev.EXECUTION_COMPLETED: "completed",
    ev.EXECUTION_FAILED: "failed",
    ev.EXECUTION_CANCELLED: "cancelled",
}


@dataclass(slots=True)
class LoopState:
    """Counters of one running loop; `done` and `failed` are bitmaps by item index."""

    total: int
    started: int = 0
    finished: int = 0
    done: int = 0
    failed: int = 0


@dataclass(slots=True)
class Live:
    """A step that has started and not ended. `outcome` is set when its one action has reported."""

    scope: Scope
    outcome: Literal["", "success", "error"] = ""
    loop: LoopState | None = None


@dataclass(slots=True)
class Arrival:
    """A branch that has reached a step and waits there; `source` is -1 for the execution's start."""

    source: int
    scope: Scope


@dataclass(slots=True)
class State:
    """Where an execution stands after the event `seq`. Steps are named by their place in the playbook.

    `visited`, `succeeded`, `failed` and `skipped` (the newest visit's) and `due` (live steps with an outcome)
    are bitmaps; `revisits` counts the visits of steps visited more than once; `ended` are steps that are over
    and whose transitions are still to be evaluated.
    """

    seq: int = 0
    status: Status = "pending"
    visited: int = 0
    revisits: dict[int, int] = field(default_factory=dict)
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    due: int = 0
    live: dict[int, Live] = field(default_factory=dict)
    waiting: dict[int, list[Arrival]] = field(default_factory=dict)
    ended: dict[int, Scope] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self.status in ("completed", "failed", "cancelled")

    def visit(self, step: int) -> int:
        """How often the step has been started or skipped."""
        return self.revisits.get(step) or self.visited >> step & 1

    def has_result(self, step: int) -> bool:
        """Whether the newest visit of the step is over, whatever came of it."""
        return bool((self.succeeded | self.failed | self.skipped) >> step & 1)

    def step_status(self, step: int) -> Literal["success", "error", "skipped"] | None:
        """The status of the newest ended visit, or None."""
        if self.failed >> step & 1:
            return "error"
        if self.skipped >> step & 1:
            return "skipped"
        return "success" if self.succeeded >> step & 1 else None


StepIndex = Callable[[str], int]


def apply(state: State, event: Event, step_index: StepIndex) -> None:
    """Advance `state` by one event, in place.

    `step_index` gives a step's place in the playbook by its name.
    Raises: `ImpossibleEvent`, with the state left as it was.
    """
    if event.seq != state.seq + 1:
        raise ImpossibleEvent(event.type, event.node_id, f"its seq is {event.seq} after {state.seq}")
    if event.type not in ev.ANNOTATIONS:
        if state.is_terminal:
            raise ImpossibleEvent(event.type, event.node_id, f"the execution is {state.status}")
        handler = _HANDLERS.get(event.type)
        if handler is None:
            raise ImpossibleEvent(event.type, event.node_id, "no such event type")
        handler(state, event, step_index)
    state.seq = event.seq


def replay(log: Iterable[Event], step_index: StepIndex, state: State | None = None) -> State:
    """Fold events, in order of `seq`, onto `state` (or a new one) and return it."""
    state = State() if state is None else state
    for event in log:
        apply(state, event, step_index)
    return state


def _start_execution(state: State, event: Event, step_index: StepIndex) -> None:
    if state.status != "pending":
        raise ImpossibleEvent(event.type, event.node_id, "it has started already")
    start = step_index("start")
    state.status = "running"
    state.waiting[start] = [Arrival(-1, {})]


def _end_execution(state: State, event: Event, step_index: StepIndex) -> None:
    state.status = TERMINAL_STATUS[event.type]
    state.due = 0
    state.live.clear()
    state.waiting.clear()
    state.ended.clear()


def _open_visit(state: State, event: Event, step: int) -> Scope:
    """Count a new visit of a step that is not running and return the inputs its arrivals brought."""
    if step in state.live or step in state.ended:
        raise ImpossibleEvent(event.type, event.node_id, "the step is running")
    visit = state.visit(step) + 1
    if ev.visit_of(event.node_id) != visit:
        raise ImpossibleEvent(event.type, event.node_id, f"its visit should be {visit}")
    scope = merge_scopes(state.waiting.pop(step, []), step)
    bit = 1 << step
    state.visited |= bit
    if visit > 1:
        state.revisits[step] = visit
    state.succeeded &= ~bit
    state.failed &= ~bit
    state.skipped &= ~bit
    return scope


def merge_scopes(arrivals: list[Arrival], step: int) -> Scope:
    """The inputs of the branches that meet at a step: those handed to it win over those that only came along.

    Among either, of equal names the branch later in file order wins.
    """
    in_order = sorted(arrivals, key=lambda arrival: arrival.source)
    merged: Scope = {}
    for direct in (False, True):
        for arrival in in_order:
            merged.update((name, at) for name, at in arrival.scope.items() if (at[1] == step) is direct)
    return merged


def _start_step(state: State, event: Event, step_index: StepIndex) -> None:
    step = step_index(event.node_name)
    state.live[step] = Live(_open_visit(state, event, step))


def _skip_step(state: State, event: Event, step_index: StepIndex) -> None:
    step = step_index(event.node_name)
    state.ended[step] = _open_visit(state, event, step)
    state.skipped |= 1 << step


def _end_step(state: State, event: Event, step_index: StepIndex) -> None:
    step = step_index(event.node_name)
    live = state.live.pop(step, None)
    if live is None:
        raise ImpossibleEvent(event.type, event.node_id, "the step is not running")
    state.due &= ~(1 << step)
    state.ended[step] = live.scope
    if event.type == ev.STEP_COMPLETED:
        state.succeeded |= 1 << step
    else:
        state.failed |= 1 << step


def _record_outcome(state: State, event: Event, step_index: StepIndex) -> None:
    step = step_index(event.node_name)
    live = state.live.get(step)
    if live is None or ev.visit_of(event.node_id) != state.visit(step):
        raise ImpossibleEvent(event.type, event.node_id, "the step is not running")
    if live.loop is not None:
        _record_item(live.loop, event)
        return
    if live.outcome or event.index is not None:
        raise ImpossibleEvent(event.type, event.node_id, "the step has an outcome already")
    live.outcome = "success" if event.type == ev.ACTION_COMPLETED else "error"
    state.due |= 1 << step


def _record_item(loop: LoopState, event: Event) -> None:
    index = event.index
    if index is None or not 0 <= index < loop.started or loop.done >> index & 1:
        raise ImpossibleEvent(event.type, event.node_id, "the item is not running")
    loop.done |= 1 << index
    loop.finished += 1
    if event.type == ev.ACTION_ERROR:
        loop.failed |= 1 << index


def _start_loop(state: State, event: Event, step_index: StepIndex) -> None:
    live = state.live.get(step_index(event.node_name))
    if live is None or live.loop is not None:
        raise ImpossibleEvent(event.type, event.node_id, "the step is not running, or its loop has started")
    live.loop = LoopState(total=event.context["count"])


def _start_item(state: State, event: Event, step_index: StepIndex) -> None:
    live = state.live.get(step_index(event.node_name))
    if live is None or live.loop is None or event.index != live.loop.started:
        raise ImpossibleEvent(event.type, event.node_id, "the loop is not running, or the item is out of order")
    live.loop.started += 1


def _complete_loop(state: State, event: Event, step_index: StepIndex) -> None:
    live = state.live.get(step_index(event.node_name))
    if live is None or live.loop is None or live.loop.finished != live.loop.started:
        raise ImpossibleEvent(event.type, event.node_id, "the loop still has running items")


def _take_transitions(state: State, event: Event, step_index: StepIndex) -> None:
    source = step_index(event.node_name)
    scope = state.ended.pop(source, None)
    if scope is None:
        raise ImpossibleEvent(event.type, event.node_id, "the step has not ended")
    for taken in event.context["taken"]:
        target = step_index(taken["step"])
        own: Scope = dict.fromkeys(taken["inputs"], (event.seq, target))
        state.waiting.setdefault(target, []).append(Arrival(source, {**scope, **own}))


_HANDLERS: dict[str, Callable[[State, Event, StepIndex], None]] = {
    ev.EXECUTION_START: _start_execution,
    ev.EXECUTION_COMPLETED: _end_execution,
    ev.EXECUTION_FAILED: _end_execution,
    ev.EXECUTION_CANCELLED: _end_execution,
    ev.STEP_STARTED: _start_step,
    ev.STEP_SKIP: _skip_step,
    ev.STEP_COMPLETED: _end_step,
    ev.STEP_FAILED: _end_step,
    ev.ACTION_COMPLETED: _record_outcome,
    ev.ACTION_ERROR: _record_outcome,
    ev.LOOP_START: _start_loop,
    ev.LOOP_ITERATION: _start_item,
    ev.LOOP_COMPLETED: _complete_loop,
    ev.TRANSITION_EVALUATED: _take_transitions,
}


def encode(state: State) -> dict[str, Any]:
    """The state as JSON-like data; bitmaps as hexadecimal text. The inverse of `decode`."""
    return {
        "format": FORMAT,
        "seq": state.seq,
        "status": state.status,
        "visited": _hex(state.visited),
        "revisits": [[step, visit] for step, visit in state.revisits.items()],
        "succeeded": _hex(state.succeeded),
        "failed": _hex(state.failed),
        "skipped": _hex(state.skipped),
        "due": _hex(state.due),
        "live": [[step, _encode_live(live)] for step, live in state.live.items()],
        "waiting": [
            [step, [[a.source, _encode_scope(a.scope)] for a in arrivals]] for step, arrivals in state.waiting.items()
        ],
        "ended": [[step, _encode_scope(scope)] for step, scope in state.ended.items()],
    }


def decode(data: dict[str, Any]) -> State:
    """The state that `encode` gave this data for."""
    return State(
        seq=data["seq"],
        status=data["status"],
        visited=int(data["visited"], 16),
        revisits=dict(data["revisits"]),
        succeeded=int(data["succeeded"], 16),
        failed=int(data["failed"], 16),
        skipped=int(data["skipped"], 16),
        due=int(data["due"], 16),
        live={step: _decode_live(live) for step, live in data["live"]},
        waiting={
            step: [Arrival(source, _decode_scope(scope)) for source, scope in arrivals]
            for step, arrivals in data["waiting"]
        },
        ended={step: _decode_scope(scope) for step, scope in data["ended"]},
    )


def _hex(bits: int) -> str:
    return format(bits, "x")


def _encode_scope(scope: Scope) -> dict[str, list[int]]:
    return {name: [seq, target] for name, (seq, target) in scope.items()}


def _decode_scope(data: dict[str, list[int]]) -> Scope:
    return {name: (seq, target) for name, (seq, target) in data.items()}


def _encode_live(live: Live) -> dict[str, Any]:
    data: dict[str, Any] = {"scope": _encode_scope(live.scope), "outcome": live.outcome}
    if (loop := live.loop) is not None:
        data["loop"] = [loop.total, loop.started, loop.finished, _hex(loop.done), _hex(loop.failed)]
    return data


def _decode_live(data: dict[str, Any]) -> Live:
    loop = None
    if (fields := data.get("loop")) is not None:
        total, started, finished, done, failed = fields
        loop = LoopState(total, started, finished, int(done, 16), int(failed, 16))
    return Live(_decode_scope(data["scope"]), data["outcome"], loop)
