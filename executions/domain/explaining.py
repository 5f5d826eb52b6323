"""Why each step of an execution ran, did not run, or waits: read from what the planner wrote down when it decided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from catalog.domain.playbook import Playbook, Step, targets_of
from executions.domain import events as ev
from executions.domain.events import Event
from executions.errors import shorten

MAX_LINES: Final = 20
"""Reasons told of one step: a loop's body has one per item."""
_ENDS: Final = {ev.STEP_COMPLETED: "success", ev.STEP_FAILED: "error", ev.STEP_SKIP: "skipped"}
_KINDS: Final = {
    "always": "it is always led to",
    "default": "no condition was true",
    "loop_end": "all items were over",
    "on_error": "a failure is led there",
    "override": "steps_override lists it next",
}


@dataclass(slots=True)
class StepExplanation:
    """One step: its status (`not run` when it never started, `running`), and why, in sentences."""

    step: str
    status: str = "not run"
    reasons: list[str] = field(default_factory=list)


def explain(playbook: Playbook, log: Iterable[Event]) -> list[StepExplanation]:
    """An explanation per step, in file order."""
    told = {step.name: StepExplanation(step.name) for step in playbook.steps}
    for event in log:
        found = told.get(event.node_name)
        if found is not None and event.type != ev.ANNOTATION:
            _tell(playbook, told, found, event)
    for step in playbook.steps:
        if told[step.name].status == "not run" and not told[step.name].reasons:
            sources = [source.name for source in playbook.steps if step.name in {to.step for to in targets_of(source)}]
            reached = [name for name in sources if told[name].status != "not run"]
            before = ", ".join(sources) or "no step"
            reason = "no branch has come to it yet" if reached else f"only {before} leads to it, and has not run"
            told[step.name].reasons.append(reason)
    for found in told.values():
        if (more := len(found.reasons) - MAX_LINES) > 0:
            found.reasons[MAX_LINES:] = [f"and {more} more"]
    return list(told.values())


def _tell(playbook: Playbook, told: dict[str, StepExplanation], found: StepExplanation, event: Event) -> None:
    node = event.node_id.partition(":")[2]
    context = event.context if isinstance(event.context, Mapping) else {}
    if event.type == ev.STEP_STARTED:
        found.status = "running"
        if (event.meta or {}).get("reason") == "quiescence":
            found.reasons.append(f"{node} ran as nothing else was left and no branch had led to it")
    elif event.type == ev.STEP_SKIP:
        found.reasons.append(f"{node} was skipped: `{context.get('because')}` is {_verdict(context)}")
    elif event.type == ev.STEP_FAILED:
        error = event.error or {}
        found.reasons.append(f"{node} failed: {error.get('code')}: {shorten(str(error.get('message')))}")
    elif event.type == ev.WAIT_STARTED:
        wanted = {name: value for name, value in context.items() if name != "kind" and value not in (None, [], {})}
        found.reasons.append(f"{node} waits for {context.get('kind')} {_shown(wanted)}")
    elif event.type == ev.WAIT_COMPLETED:
        found.reasons.append(f"{node} has got what it waited for")
    elif event.type == ev.ACTION_RETRY:
        error = event.error or {}
        message = f"{error.get('code')}: {shorten(str(error.get('message')))}"
        found.reasons.append(f"{node} failed in try {context.get('try')} and is tried again: {message}")
    elif event.type == ev.WARNING:
        found.reasons.append(f"{node}: {shorten(str((event.error or {}).get('message')))}")
    elif event.type == ev.TRANSITION_EVALUATED:
        source = playbook.steps[playbook.index_by_name[event.node_name]]
        _tell_targets(source, told, node, context)
    found.status = _ENDS.get(event.type, found.status)


def _tell_targets(source: Step, told: dict[str, StepExplanation], node: str, context: Mapping[str, Any]) -> None:
    """What an evaluated `next` says of the steps that it led to, and of those that a condition kept out."""
    for item in context.get("items", ()):
        for target in item.get("taken", ()):
            if item.get("kind") == "condition":
                reason = f"{node} led to it: {_verdict(item)}"
            else:
                reason = f"{node} led to it: {_KINDS.get(item.get('kind'), 'it is named there')}"
            told[target].reasons.append(reason)
        kept_out = [to.step for other in source.next if other.when == item.get("expression") for to in other.then]
        if item.get("kind") == "condition" and item.get("truth") is False:
            for target in kept_out:
                told[target].reasons.append(f"{node} did not lead to it: {_verdict(item)}")


def _verdict(told: Mapping[str, Any]) -> str:
    """`expression` is VALUE (operand = value, ...)."""
    operands = told.get("operands") or {}
    shown = ", ".join(f"{name} = {_shown(value)}" for name, value in operands.items())
    warning = f"; {told['warning']}" if told.get("warning") else ""
    return f"{told.get('expression')} is {str(told.get('truth')).lower()}{f' ({shown})' if shown else ''}{warning}"


def _shown(value: Any) -> str:
    return shorten(json.dumps(value, ensure_ascii=False, default=str), 80)
