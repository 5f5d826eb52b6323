"""A past execution under a changed playbook: its recorded results answer the new plan, and what differs is told.

Nothing runs. A node that has no recorded result stays open, and so does all that hangs on it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.engine import Engine, begin
from executions.domain.events import Event
from executions.domain.memory import STEP_STATUSES, MemoryLog

_OF_EXECUTION: Final = frozenset({ev.SIGNAL_RECEIVED, ev.CANCEL_REQUESTED})
"""What came from outside, whatever the plan was; an execution that is not paused needs no resuming."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that would be otherwise. `what`: step, transition, action, status, result or error.

    `before` and `after` are None where there is nothing: a step that does not run, an action that is not asked for.
    """

    what: str
    node_id: str
    before: Any
    after: Any


@dataclass(slots=True)
class Replayed:
    """A log's results run through a playbook. `works` are the rendered actions and children by node.

    `would_run` are nodes that no recorded result answers.
    """

    engine: Engine
    works: dict[str, Any] = field(default_factory=dict)
    would_run: list[str] = field(default_factory=list)


def replay_recorded(playbook: Playbook, log: MemoryLog, env: Mapping[str, str]) -> Replayed:
    """Run a log's recorded results through a playbook, in the order in which they were recorded.

    The recorded workload lies over the playbook's own. Raises: `WorkloadInvalid`.
    """
    first = log.events[0]
    # Its time does not pass: `now()` is when the execution began.
    recorded_at = log.times[0]
    engine = begin(playbook, first.node_id, first.context["workload"], env=env, now=lambda: recorded_at)
    replayed = Replayed(engine)
    answers = _Answers(log.events)
    engine.start((first.context or {}).get("version", ""))
    while True:
        news = engine.take_news()
        for job in news.jobs:
            replayed.works[job.node_id] = job.action
        for child in news.children:
            replayed.works[child.node_id] = {"path": child.path, "version": child.version, "payload": child.payload}
        answers.wanted_at([*(job.node_id for job in news.jobs), *(child.node_id for child in news.children)])
        answers.wanted_at(timer.node_id for timer in news.timers)
        if engine.is_over or (event := answers.next(engine)) is None:
            break
        _happen(engine, event)
    replayed.would_run = sorted((*engine.jobs, *engine.children))
    return replayed


class _Answers:
    """What was recorded from outside the plan, given out in its order as soon as the plan waits for it."""

    def __init__(self, log: Iterable[Event]) -> None:
        self._ready: list[tuple[int, Event]] = []
        self._by_node: dict[str, list[Event]] = {}
        for event in log:
            if event.type in _OF_EXECUTION:
                self._ready.append((event.seq, event))
            elif _came_from_outside(event):
                self._by_node.setdefault(event.node_id, []).append(event)

    def wanted_at(self, node_ids: Iterable[str]) -> None:
        """The plan waits for these nodes now."""
        for node_id in node_ids:
            for event in self._by_node.pop(node_id, ()):
                heapq.heappush(self._ready, (event.seq, event))

    def next(self, engine: Engine) -> Event | None:
        """The earliest that the plan still waits for."""
        while self._ready:
            event = heapq.heappop(self._ready)[1]
            if event.type in _OF_EXECUTION or _is_open(engine, event):
                return event
        return None


def _came_from_outside(event: Event) -> bool:
    """An item whose action could not be rendered has an `action_error`, too, and that is the plan's own."""
    if event.type in (ev.TIMER_FIRED, ev.CHILD_COMPLETED):
        return True
    meta = event.meta or {}
    return event.type in ev.OUTCOMES and ("attempt" in meta or "reused_from" in meta)


def _is_open(engine: Engine, event: Event) -> bool:
    if event.type == ev.TIMER_FIRED:
        return (event.node_id, event.context["kind"]) in engine.timers
    return event.node_id in engine.jobs or event.node_id in engine.children


def _happen(engine: Engine, event: Event) -> None:
    if event.type == ev.TIMER_FIRED:
        engine.fire(engine.timers[event.node_id, event.context["kind"]], event.context.get("due_at", ""))
        return
    fields = ("status", "context", "result", "error", "meta", "loop_name", "index")
    told = {name: getattr(event, name) for name in fields}
    engine.take(Event(engine.next_seq, event.type, event.node_id, event.node_name, event.node_type, **told))


# -- what differs ------------------------------------------------------------------------------------


def compare(recorded: MemoryLog, before: Replayed, after: Replayed) -> list[Difference]:
    """What the changed playbook would do otherwise, in the order of the log.

    `before` is the recorded playbook's replay: rendered actions are in no log.
    """
    new = after.engine
    found = _differing("step", _statuses(recorded.events), _statuses(new.log.events))
    found += _differing("transition", _transitions(recorded.events), _transitions(new.log.events))
    known = {node_id: work for node_id, work in before.works.items() if node_id in after.works}
    found += _differing("action", known, {node_id: after.works[node_id] for node_id in known})
    old_end = next((event for event in reversed(recorded.events) if event.type in ev.TERMINAL), None)
    for what, was, would_be in (
        ("status", old_end.status if old_end else "running", new.status),
        ("result", old_end.result if old_end else None, new.result),
        ("error", _cause(old_end.error) if old_end else None, _cause(new.error)),
    ):
        if was != would_be:
            found.append(Difference(what, new.execution_id, was, would_be))
    return found


def _differing(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    nodes = [*before, *(node_id for node_id in after if node_id not in before)]
    return [
        Difference(what, node_id, before.get(node_id), after.get(node_id))
        for node_id in nodes
        if before.get(node_id) != after.get(node_id)
    ]


def _statuses(log: Iterable[Event]) -> dict[str, str]:
    return {event.node_id: STEP_STATUSES[event.type] for event in log if event.type in STEP_STATUSES}


def _transitions(log: Iterable[Event]) -> dict[str, list[str]]:
    return {
        event.node_id: [item["step"] for item in event.context["taken"]]
        for event in log
        if event.type == ev.TRANSITION_EVALUATED
    }


def _cause(error: Any) -> Any:
    """What an error says, without what belongs to one run of an action."""
    return {key: error.get(key) for key in ("step", "code", "message")} if isinstance(error, Mapping) else error
