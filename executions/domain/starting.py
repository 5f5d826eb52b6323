"""How a step starts: whether it is its turn, whether it is skipped, and what is asked for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from catalog.domain.durations import MAX_SECONDS, seconds_of
from catalog.domain.playbook import Step, Wait
from executions.domain import events as ev
from executions.domain.commands import SetTimer, StartChild
from executions.domain.conditions import Verdict, evaluate
from executions.domain.ending import complete_step
from executions.domain.frames import Frame, Scope, bitmap, merge_scopes
from executions.domain.jobs import EnqueueJob, render_work
from executions.domain.loops import Items, collect_items
from executions.domain.planning import Planning, problem_of
from executions.domain.sight import Spot
from executions.domain.state import ROOT
from executions.domain.submitting import submit
from executions.domain.unwinding import fail_frame
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import TemplateError, shorten


class WaitInvalid(TemplateError):
    """What a step should wait for is no duration, time or name."""

    code = "wait_invalid"


def next_ready(planning: Planning, frame: Frame) -> int | None:
    """The waiting step, first in file order, that no live branch of its frame can still reach.

    A `join: any` waits for none of them. When only waiting steps remain, the first of them. A step that is running
    waits for its own end.
    """
    waiting = frame.waiting
    if not waiting:
        return None
    if len(waiting) == 1 and not frame.live:
        return next(iter(waiting))
    reach = planning.playbook.ancestors
    active = bitmap(frame.live) | bitmap(waiting)
    for step in sorted(waiting):
        if step in frame.live:
            continue
        if planning.playbook.steps[step].join == "any" or not active & ~(1 << step) & reach[step]:
            return step
    return None if bitmap(frame.live) & ~planning.tellings() else min(waiting)


def start_step(planning: Planning, spot: Spot, *, reason: str = "transition") -> None:
    """Start a step: skip it, pass through it, or ask for its work."""
    step, frame = planning.step(spot), planning.state.frame(spot.key)
    node_id = planning.sight.node_id(spot, upcoming=True)
    arrivals = frame.waiting.get(spot.index, [])
    if (error := _why_not(planning, spot, step, frame)) is not None:
        fail_frame(planning, spot.key, error, step.name, node_id)
        return
    scope = merge_scopes(arrivals, spot.index)
    if (skipped := _skip_verdict(planning, spot, step, scope, node_id)) is not None:
        key, told = skipped
        planning.emit(
            ev.STEP_SKIP,
            node_id,
            step.name,
            status="skipped",
            context={"because": key, **told.explain()},
            meta={"reason": f"{key}={str(told.truth).lower()}"},
        )
        return
    _start_unskipped(planning, spot, step, node_id, scope, reason)


def _why_not(planning: Planning, spot: Spot, step: Step, frame: Frame) -> dict[str, Any] | None:
    """Why the step cannot start at all, which fails its frame."""
    most = planning.playbook.max_visits
    if frame.visit(spot.index) >= most:
        message = f"step {step.name!r} was to run more than max_visits={most} times"
        return {"code": "max_visits", "message": message}
    if step.join != "all":
        return None
    playbook = planning.playbook
    around = playbook.enclosing[spot.index]
    arrived = {arrival.source for arrival in frame.waiting.get(spot.index, [])}
    absent = [
        source.name
        for index, source in enumerate(playbook.steps)
        if playbook.predecessors[spot.index] >> index & 1
        and playbook.enclosing[index] == around
        and index not in arrived
    ]
    if not absent or not arrived:
        return None
    message = f"step {step.name!r} joins all branches, and these can no longer arrive: {', '.join(absent)}"
    return {"code": "join_incomplete", "message": message, "absent": absent}


def _skip_verdict(planning: Planning, spot: Spot, step: Step, scope: Scope, node_id: str) -> tuple[str, Verdict] | None:
    """Why the step is skipped, or None; a condition that fails to evaluate is told in a warning."""
    if spot.key == ROOT and planning.state.override is not None:
        return None
    lookup = planning.sight.lookup(spot, scope, planning.sight.handed(spot, scope))
    for key, condition, skips_when in (("pass", step.skip_if, True), ("when", step.run_if, False)):
        if condition is None:
            continue
        verdict = evaluate(condition, lookup)
        if verdict.warning:
            planning.warn(node_id, step.name, verdict)
        if verdict.truth is skips_when:
            return key, verdict
    return None


def _start_unskipped(planning: Planning, spot: Spot, step: Step, node_id: str, scope: Scope, reason: str) -> None:
    try:
        prepared = _prepare(planning, spot, step, scope)
    except TemplateError as error:
        planning.emit(ev.STEP_STARTED, node_id, step.name, status="running", meta={"reason": reason})
        planning.fail_step(spot, problem_of(error))
        return
    inputs = _inputs_of(prepared)
    context = {"inputs": inputs} if inputs else None
    planning.emit(ev.STEP_STARTED, node_id, step.name, status="running", context=context, meta={"reason": reason})
    match prepared:
        case EnqueueJob() | StartChild():
            submit(planning, spot, prepared)
        case Items():
            _start_loop(planning, spot, step, node_id, prepared)
        case _Waiting():
            _start_wait(planning, step, node_id, prepared)
        case _:
            complete_step(planning, spot)
            return
    # An action's time is limited by its worker.
    if step.timeout_seconds is not None and not isinstance(prepared, EnqueueJob):
        planning.decision.timers.append(SetTimer(node_id, "timeout", seconds=step.timeout_seconds))


class _Waiting(dict[str, Any]):
    """What a wait has started for, as its event tells it: `kind`, and `seconds`, `until` or `signal`."""


Prepared = EnqueueJob | StartChild | Items | _Waiting | dict[str, Any]


def _inputs_of(prepared: Prepared) -> dict[str, Any]:
    match prepared:
        case EnqueueJob():
            inputs: dict[str, Any] = prepared.action["inputs"]
            return inputs
        case StartChild():
            return prepared.payload
        case Items() | _Waiting():
            return {}
    return prepared


def _prepare(planning: Planning, spot: Spot, step: Step, scope: Scope) -> Prepared:
    """Render what the step needs to start. Raises: `TemplateError`; nothing has been emitted then."""
    sight = planning.sight
    handed = sight.handed(spot, scope)
    if step.loop is not None:
        lookup = sight.lookup(spot, scope, handed)
        if (prefix := step.loop.items_under) is not None:
            return collect_items(step.loop, _paths_under(planning, prefix), lookup)
        return collect_items(step.loop, sight.render(step.loop.items, lookup), lookup)
    if step.wait is not None:
        return _prepare_wait(planning, spot, step.wait, scope, handed)
    if step.has_work:
        return render_work(sight, spot, scope, handed, upcoming=True)
    return sight.inputs(spot, scope, handed, {})


def _paths_under(planning: Planning, prefix: str) -> list[str]:
    if prefix not in planning.facts.catalog:
        raise MissingFacts(Wanted(catalog={prefix}))
    return planning.facts.catalog[prefix]


# -- waits -------------------------------------------------------------------------------------------


def _prepare_wait(planning: Planning, spot: Spot, wait: Wait, scope: Scope, handed: dict[str, Any]) -> _Waiting:
    inputs = planning.sight.inputs(spot, scope, handed, {})
    lookup = planning.sight.lookup(spot, scope, {**handed, **inputs})
    what = planning.sight.render(wait.what, lookup)
    match wait.kind:
        case "duration":
            if (seconds := seconds_of(what)) is None or seconds > MAX_SECONDS:
                raise WaitInvalid(str(wait.what), f"a duration is seconds or a text as 5m, not {_shown(what)}")
            return _Waiting(kind="duration", seconds=seconds)
        case "until":
            return _Waiting(kind="until", until=_moment(wait, what))
        case "signal":
            if not isinstance(what, str) or not what.strip():
                raise WaitInvalid(str(wait.what), f"a signal's name is a text, not {_shown(what)}")
            return _Waiting(kind="signal", signal=what.strip())
    form = planning.sight.render(wait.form, lookup)
    return _Waiting(kind="approval", message=what, form=form, approvers=list(wait.approvers))


def _moment(wait: Wait, what: Any) -> str:
    try:
        moment = datetime.fromisoformat(what)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        message = f"a time is written as 2030-01-31T12:00:00+00:00, with its zone, not {_shown(what)}"
        raise WaitInvalid(str(wait.what), message)
    return moment.isoformat()


def _shown(value: Any) -> str:
    return shorten(repr(value), 60)


def _start_wait(planning: Planning, step: Step, node_id: str, waiting: _Waiting) -> None:
    planning.emit(ev.WAIT_STARTED, node_id, step.name, status="running", context=dict(waiting))
    if waiting["kind"] in ("duration", "until"):
        timer = SetTimer(node_id, "wait", seconds=waiting.get("seconds"), until=waiting.get("until"))
        planning.decision.timers.append(timer)


# -- loops -------------------------------------------------------------------------------------------


def _start_loop(planning: Planning, spot: Spot, step: Step, node_id: str, items: Items) -> None:
    loop = step.loop
    assert loop is not None
    planning.facts.items.update(((node_id, place), item) for place, item in enumerate(items.kept))
    planning.emit(
        ev.LOOP_START,
        node_id,
        step.name,
        ev.NODE_LOOP,
        status="running",
        loop_name=step.name,
        context={"count": len(items.kept), "items": items.kept, "element": loop.element, "mode": loop.mode},
    )
    for verdict in items.failed:
        planning.warn(node_id, step.name, verdict)
