"""What a running execution waits for, asked for once more: for when jobs, children or timers are gone that it had.

The fold of its log tells where work is open, and not what it was: that was rendered once, when it was asked for. So
each is planned again from the state as it was then, and comes out as it did; nothing that happened since is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.commands import SetTimer, StartChild
from executions.domain.events import Event
from executions.domain.facts import Facts
from executions.domain.fold import apply, place_of, replay
from executions.domain.frames import Live, places
from executions.domain.jobs import EnqueueJob, render_undo
from executions.domain.planner import Decision, plan_next, timers_of
from executions.domain.sight import Sight, Spot
from executions.domain.state import ROOT, Agenda, State, path_of
from executions.domain.wanted import FrameKey

_ASKING: Final = frozenset({ev.STEP_STARTED, ev.LOOP_ITERATION, ev.SAVE_STARTED})
"""The events that work is asked for with."""

Ask = Callable[[Event, Callable[[Facts], Any]], Any]
"""Answers a question with facts recorded when the event was, loaded until none is missing."""


@dataclass(slots=True)
class Owed:
    """What is asked for again; the timers are due when they were."""

    jobs: list[EnqueueJob] = field(default_factory=list)
    children: list[StartChild] = field(default_factory=list)
    timers: list[SetTimer] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    """Nodes: `work` whose job or child has not ended, `timed` whose timer has not fired, `begun` where to look."""

    work: set[str] = field(default_factory=set)
    timed: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)


def ask_again(playbook: Playbook, execution_id: str, log: Sequence[Event], times: Mapping[int, str], ask: Ask) -> Owed:
    """All jobs, children and timers that the execution of this log waits for. It has started and not ended.

    `times` tells by seq when each event was recorded, RFC 3339. Raises: `ImpossibleEvent`, and what `ask` raises.
    """
    last = replay(log, playbook)
    still, owed, state = _open_in(playbook, execution_id, last), Owed(), State()
    for event in log:
        if event.type in _ASKING and (event.node_id in still.begun or event.node_id in still.work):
            key = place_of(playbook, event).key
            _take(ask(event, partial(_next, playbook, state, key)), still, owed, times[event.seq])
        apply(state, event, playbook)
    if last.phase == "undoing" and last.undo and not last.undo_outcome:
        begun = next(event for event in reversed(log) if event.type in (ev.UNDO_STARTED, ev.STEP_UNDONE))
        owed.jobs.append(ask(begun, partial(_undo, playbook, last)))
    owed.timers.extend(_as_set_at(timer, times[1]) for timer in timers_of(playbook, last, execution_id, log))
    return owed


def _open_in(playbook: Playbook, execution_id: str, state: State) -> _Open:
    found = _Open()
    for key, frame in state.frames.items():
        for index, live in frame.live.items():
            step = playbook.steps[index]
            node_id = ev.step_node_id(execution_id, step.name, frame.number(index), path_of(key))
            if (step.wait is not None or step.timeout_seconds is not None) and not live.fired:
                found.timed.add(node_id)
            if step.loop is None and step.has_work and not live.outcome:
                found.work.add(node_id)
            if live.save == "running":
                found.work.add(ev.save_node_id(node_id))
            if step.loop is not None:
                found.work.update(_open_in_loop(node_id, live, over_steps=step.loop.end is not None))
            if node_id in found.timed or (live.save == "running" and not step.has_work):
                found.begun.add(node_id)
    return found


def _open_in_loop(node_id: str, live: Live, *, over_steps: bool) -> Iterator[str]:
    """The items that run by themselves, and the chunks that are being saved."""
    loop = live.loop
    if loop is None:
        return
    if not over_steps:
        place, mark, visit = node_id.partition("#")
        for item in range(loop.started):
            if loop.runs(item):
                yield f"{place}:{item}{mark}{visit}"
    for chunk in places(loop.asked & ~loop.saved):
        yield ev.save_node_id(node_id, chunk)


def _next(playbook: Playbook, state: State, key: FrameKey, facts: Facts) -> Decision:
    """What followed in a frame from the state, which is left as it is."""
    frames = dict(state.frames)
    for depth in range(0, len(key) + 1, 2):
        frames[key[:depth]] = deepcopy(frames[key[:depth]])
    own = replace(
        state,
        frames=frames,
        undo=[*state.undo],
        signals=deepcopy(state.signals),
        awaiting=deepcopy(state.awaiting),
        dirty=set(),
        dropped=set(),
        agenda=Agenda(),
    )
    return plan_next(playbook, own, key, facts)


def _undo(playbook: Playbook, state: State, facts: Facts) -> EnqueueJob:
    node_id = state.undo[0]
    spot = Spot(ROOT, playbook.index_by_name[ev.parse_node_id(node_id).step])
    return render_undo(Sight(playbook, state, facts), spot, node_id, ev.undo_node_id(node_id))


def _take(decision: Decision, still: _Open, owed: Owed, at: str) -> None:
    """Keep what is still open of what was asked for then, once."""
    jobs = [job for job in decision.jobs if job.node_id in still.work]
    children = [child for child in decision.children if child.node_id in still.work]
    owed.jobs += jobs
    owed.children += children
    owed.timers += [_as_set_at(timer, at) for timer in decision.timers if timer.node_id in still.timed]
    still.work.difference_update(job.node_id for job in jobs)
    still.work.difference_update(child.node_id for child in children)


def _as_set_at(timer: SetTimer, at: str) -> SetTimer:
    """The timer with the time at which it is due when it was set at `at`."""
    if timer.until is not None or timer.seconds is None:
        return timer
    due = datetime.fromisoformat(at) + timedelta(seconds=timer.seconds)
    return replace(timer, seconds=None, until=due.isoformat())
