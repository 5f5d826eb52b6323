"""Why each step of an execution ran, did not run, or waits: from its log, as the planner wrote it down.

Decides nothing anew: conditions are told as they were evaluated, with the values they were evaluated on.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from catalog.api import Playbook, Step, load_playbook
from executions.domain import events as ev
from executions.domain import state as states
from executions.domain.frames import places
from executions.errors import ExecutionNotFound, shorten
from executions.models import EventLog, Execution, Timer
from executions.selectors import get_execution
from executions.store import count_items
from queueing.api import DEFAULT_POOL, query_jobs

_TOLD: Final = (
    ev.STEP_STARTED,
    ev.STEP_SKIP,
    ev.STEP_COMPLETED,
    ev.STEP_FAILED,
    ev.STEP_UNDONE,
    ev.TRANSITION_EVALUATED,
    ev.SAVE_SKIP,
    ev.WAIT_STARTED,
    ev.CHILD_STARTED,
    ev.ACTION_RETRY,
    ev.WARNING,
    ev.FINALLY_STARTED,
    ev.NOTIFYING_STARTED,
    ev.UNDO_STARTED,
)
_STATUS: Final = {ev.STEP_STARTED: "running", ev.STEP_SKIP: "skipped", ev.STEP_COMPLETED: "success"}
MAX_VALUE_CHARS: Final = 80


@dataclass(slots=True)
class Explanation:
    """One step: its newest visit's `status` (`not run` when it has none), and why, in sentences.

    `items` counts the statuses of a step that is run once per item of a loop.
    """

    step: str
    status: str = "not run"
    visits: int = 0
    reasons: list[str] = field(default_factory=list)
    items: dict[str, int] = field(default_factory=dict)


def explain_execution(reference: int | str) -> list[Explanation]:
    """Every step of an execution's playbook, in file order. Raises: `ExecutionNotFound`."""
    execution_id = int(get_execution(reference).id)
    row = Execution.objects.filter(id=execution_id).first()
    if row is None:
        raise ExecutionNotFound(reference)
    story = _Story(row)
    return [story.explain(index) for index in range(len(story.playbook.steps))]


class _Story:
    """What is known of one execution, by step."""

    def __init__(self, row: Execution) -> None:
        self.row = row
        self.playbook: Playbook = load_playbook(row.playbook_version_id)
        self._events: dict[str, list[EventLog]] = defaultdict(list)
        self._ends: list[EventLog] = []
        rows = EventLog.objects.filter(execution_id=row.id, event_type__in=_TOLD).order_by("seq")
        for event in rows.defer("result", "stack_trace", "current_item").iterator(chunk_size=1000):
            if event.event_type in (ev.FINALLY_STARTED, ev.NOTIFYING_STARTED, ev.UNDO_STARTED):
                self._ends.append(event)
            else:
                self._events[event.node_name].append(event)

    def explain(self, index: int) -> Explanation:
        step = self.playbook.steps[index]
        told = Explanation(step.name)
        nodes: dict[str, str] = {}
        for event in self._events[step.name]:
            self._read(event, told, nodes)
        told.visits = len(nodes)
        if self.playbook.enclosing[index]:
            told.items = dict(Counter(nodes.values()))
        if nodes:
            told.reasons[:0] = list(self._why_reached(step))
        else:
            told.reasons.extend(self._why_not_reached(index, step))
        if told.status == "running":
            told.reasons.extend(self._waits_for(step, next(reversed(nodes))))
        return told

    def _read(self, event: EventLog, told: Explanation, nodes: dict[str, str]) -> None:
        """What one event of the step tells of it."""
        context = _context(event)
        match event.event_type:
            case ev.STEP_STARTED | ev.STEP_SKIP | ev.STEP_COMPLETED | ev.STEP_FAILED:
                told.status = nodes[event.node_id] = _STATUS.get(event.event_type, "error")
                if event.event_type == ev.STEP_SKIP:
                    told.reasons.append(f"skipped by `{context.get('because')}`: {_verdict(context)}")
                elif event.event_type == ev.STEP_FAILED:
                    told.reasons.append(f"failed: {_error(event.error)}")
            case ev.CHILD_STARTED:
                told.reasons.append(f"run by the execution {context.get('execution_id')} of {context.get('path')}")
            case ev.SAVE_SKIP:
                told.reasons.append(_unsaved(context))
            case ev.ACTION_RETRY:
                told.reasons.append(
                    f"try {context.get('try')} failed ({_error(event.error)}); "
                    f"the next came {context.get('delay_seconds')} s later"
                )
            case ev.WARNING:
                told.reasons.append(f"warning: {_error(event.error)}")
            case ev.STEP_UNDONE:
                told.reasons.append("undone" if event.error is None else f"not undone: {_error(event.error)}")

    # -- how it was reached --------------------------------------------------------------------------

    def _why_reached(self, step: Step) -> Iterator[str]:
        """The branches that led to the step, each told once."""
        yield from dict.fromkeys(
            _branch(source, item)
            for source, event in self._transitions()
            if any(target["step"] == step.name for target in _context(event)["taken"])
            for item in _context(event)["items"]
            if step.name in item["taken"]
        )
        if any(target["step"] == step.name for end in self._ends for target in _context(end).get("taken", ())):
            yield "`finally` runs it before the end" if step.notice is None else "`notify` tells how it ended"
        elif step.notice is not None:
            yield "`notify` tells that it is late"
        first = self._events[step.name][0]
        if (first.meta or {}).get("reason") == "quiescence":
            yield "nothing else was left to run"
        elif step.name == "start":
            yield "every execution begins here"

    def _why_not_reached(self, index: int, step: Step) -> Iterator[str]:
        """What of the steps before it kept it from running."""
        if (waiting := self._waiting_for(index)) is not None:
            yield waiting
            return
        if step.notice is not None:
            yield f"`notify` tells of it on {' or '.join(step.notice.on)}"
            return
        reached = False
        for source in places(self.playbook.predecessors[index]):
            name = self.playbook.steps[source].name
            events = [event for found, event in self._transitions() if found == name]
            if not events:
                yield f"`{name}` leads to it and has not come to its end"
                continue
            reached = True
            yield from self._not_taken(self.playbook.steps[source], step.name, events[-1])
        if not reached and not self.playbook.predecessors[index]:
            yield "no `next` leads to it"

    def _not_taken(self, source: Step, target: str, event: EventLog) -> Iterator[str]:
        """Why the newest evaluation of a step's `next` did not lead to the target."""
        told = _context(event)["items"]
        # As the planner told them: conditions in their order, what applies when none was true after them.
        written = sorted(source.next, key=lambda item: item.kind == "default")
        if len(told) != len(written):
            yield f"`{source.name}` led to {_names(_context(event)['taken'])}"
            return
        for item, explained in zip(written, told, strict=True):
            if target in {one.step for one in (*item.then, *item.otherwise)} and target not in explained["taken"]:
                yield f"`{source.name}` did not lead to it: {_verdict(explained)}"

    def _waiting_for(self, index: int) -> str | None:
        """Which branches a step that was reached still waits for."""
        if self.row.state is None or self.row.state.get("format") != states.FORMAT:
            return None
        root = states.decode(self.row.state).root
        if index not in root.waiting:
            return None
        others = (root.active() & self.playbook.ancestors[index]) & ~(1 << index)
        names = ", ".join(f"`{self.playbook.steps[other].name}`" for other in places(others))
        return f"reached, and waits for branches that may still come: {names or 'none'}"

    def _transitions(self) -> Iterator[tuple[str, EventLog]]:
        for name, events in self._events.items():
            yield from ((name, event) for event in events if event.event_type == ev.TRANSITION_EVALUATED)

    # -- what it waits for ---------------------------------------------------------------------------

    def _waits_for(self, step: Step, node_id: str) -> Iterator[str]:
        """What has to happen before a running step goes on."""
        if self.row.ended_at is not None:
            yield "called off with the execution"
            return
        if self.row.status == Execution.Status.PAUSED:
            yield "the execution is paused"
        if step.loop is not None:
            done, failed = count_items(self.row.id, node_id)
            yield f"{done + failed} items of its loop are over, {failed} of them failed"
        waits = [event for event in self._events[step.name] if event.event_type == ev.WAIT_STARTED]
        if waits:
            yield _wait(waits[-1].context)
        jobs = Counter(query_jobs(execution_id=self.row.id, node_name=step.name).values_list("status", flat=True))
        if open_jobs := {status: jobs[status] for status in ("queued", "leased") if jobs[status]}:
            yield "has jobs: " + ", ".join(f"{count} {status}" for status, count in open_jobs.items())
        if jobs["queued"]:
            yield from _queued(self.row.id, step.name)
        for timer in Timer.objects.filter(execution_id=self.row.id, node_id=node_id):
            yield f"its {timer.kind} is due at {timer.due_at.isoformat()}"
        children = Execution.objects.filter(
            parent_execution_id=self.row.id, parent_waits=True, parent_node_id__startswith=node_id.partition("#")[0]
        )
        for child in children.order_by("id")[:10]:
            yield f"waits for the execution {child.id}, which is {child.status}"


def _queued(execution_id: int, step: str) -> Iterator[str]:
    """Whose workers the step's queued jobs wait for, and which keys have no room for them."""
    queued = query_jobs(execution_id=execution_id, node_name=step, status="queued")
    for pool, key in queued.order_by("pool", "parked_by").values_list("pool", "parked_by").distinct():
        if key is not None:
            yield f"waits for room at {key}, which has as many jobs running as it allows"
        elif pool != DEFAULT_POOL:
            yield f"waits for a worker of the pool `{pool}`"


def _context(event: EventLog) -> Mapping[str, Any]:
    return event.context or {}


def _branch(source: str, item: Mapping[str, Any]) -> str:
    if item["kind"] == "on_error":
        return f"`{source}` failed, and `on_error` leads to it"
    if "truth" in item:
        return f"`{source}` led to it: {_verdict(item)}"
    default = " as no condition was true" if item["kind"] == "default" else ""
    return f"`{source}` led to it{default}"


def _verdict(told: Mapping[str, Any]) -> str:
    """A condition as it was evaluated: the expression, what it gave, and on which values."""
    if "truth" not in told:
        return "another condition was true before" if "expression" in told else "a condition was true"
    text = f"{told.get('expression')} gave {_shown(told.get('value'))}, which is {str(told['truth']).lower()}"
    if operands := told.get("operands"):
        text += " (" + ", ".join(f"{name} was {_shown(value)}" for name, value in operands.items()) + ")"
    return f"{text}: {told['warning']}" if told.get("warning") else text


def _wait(context: Any) -> str:
    match context["kind"]:
        case "signal":
            return f"waits for the signal {context['signal']!r}"
        case "approval":
            approvers = ", ".join(context.get("approvers") or ()) or "anyone who may"
            return f"waits for an approval by {approvers}: {_shown(context.get('message'))}"
        case "until":
            return f"waits until {context['until']}"
    return f"waits {context.get('seconds')} seconds"


def _unsaved(context: Mapping[str, Any]) -> str:
    """Why something was not saved."""
    match context["because"]:
        case "when":
            return f"not saved, by `when`: {_verdict(context)}"
        case "on":
            return f"not saved: `save` is for `on: {context['on']}`"
    return f"none of the items {context['first']} to {context['last']} is to be saved"


def _error(error: Any) -> str:
    return str(error.get("message", "")) if isinstance(error, Mapping) else str(error)


def _names(taken: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"`{target['step']}`" for target in taken) or "nothing"


def _shown(value: Any) -> str:
    return shorten(json.dumps(value, default=str, ensure_ascii=False), MAX_VALUE_CHARS)
