"""How a step ends: its work's outcome, the items of its loop, what it waited for, its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.domain.playbook import Step
from catalog.domain.template_syntax import names_read
from executions.domain import events as ev
from executions.domain.frames import Frame, Live, places
from executions.domain.jobs import render_work
from executions.domain.loops import startable
from executions.domain.planning import Planning, problem_of
from executions.domain.results import StepResult
from executions.domain.sight import Spot
from executions.domain.submitting import submit, want_recorded
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import TemplateError


def next_due(planning: Planning, frame: Frame) -> int | None:
    """The first running step, in file order, of which there is something new."""
    return next((index for index in places(frame.due) if _has_news(planning, index, frame.live[index])), None)


def _has_news(planning: Planning, index: int, live: Live) -> bool:
    loop = planning.playbook.steps[index].loop
    if live.fired or live.loop is None or loop is None:
        return True
    return live.loop.finished == live.loop.started or startable(loop, live.loop) > 0


def end_step(planning: Planning, spot: Spot) -> None:
    """Act on what is new of a running step."""
    step, live = planning.step(spot), planning.state.frame(spot.key).live[spot.index]
    if live.fired == "timeout":
        _time_out(planning, spot, step)
    elif live.loop is not None:
        _advance_loop(planning, spot, step, live)
    elif live.outcome == "success":
        complete_step(planning, spot)
    elif live.outcome == "error":
        stored = planning.sight.stored(spot)
        planning.fail_step(spot, stored.error, stored.data)
        _stop_timers(planning, spot, step)
    else:
        _end_wait(planning, spot, step, live)


def _time_out(planning: Planning, spot: Spot, step: Step) -> None:
    message = f"step {step.name!r} was not over after {step.timeout_seconds:g} seconds"
    planning.close_step(spot)
    planning.fail_step(spot, {"code": "timeout", "message": message})


def _end_wait(planning: Planning, spot: Spot, step: Step, live: Live) -> None:
    """What was waited for has come: the time, or a signal with its data."""
    node_id = planning.sight.node_id(spot)
    result, error = None, None
    if live.signal:
        if live.signal not in planning.facts.signals:
            raise MissingFacts(Wanted(signals={live.signal}))
        result = planning.facts.signals[live.signal]
        if step.wait is not None and step.wait.kind == "approval" and not result["approved"]:
            error = {"code": "approval_rejected", "message": f"step {step.name!r} was not approved"}
    status = "success" if error is None else "error"
    # Not in the log yet: a loop around it may be over with it, and collects what its steps gave.
    planning.sight.ended_here[node_id] = StepResult("success" if error is None else "error", result, error)
    planning.emit(ev.WAIT_COMPLETED, node_id, step.name, status=status, result=result, error=error)


def complete_step(planning: Planning, spot: Spot) -> None:
    """End a step well; its `result` is rendered now."""
    step, node_id = planning.step(spot), planning.sight.node_id(spot)
    fields: dict[str, Any] = {}
    if step.result is not None:
        try:
            result = _render_result(planning, spot, step)
        except TemplateError as error:
            planning.fail_step(spot, problem_of(error))
            _stop_timers(planning, spot, step)
            return
        fields["result"] = result
        planning.sight.ended_here[node_id] = StepResult("success", result)
    elif not step.has_work:
        planning.sight.ended_here[node_id] = StepResult("success")
    planning.emit(ev.STEP_COMPLETED, node_id, step.name, status="success", **fields)
    _stop_timers(planning, spot, step)


def _stop_timers(planning: Planning, spot: Spot, step: Step) -> None:
    """The timers of a step that is over are called off; an action has none."""
    if step.wait is not None or (step.timeout_seconds is not None and (step.child or step.loop)):
        planning.close_step(spot)


def _render_result(planning: Planning, spot: Spot, step: Step) -> Any:
    """The step's `result`; where it closes a loop, its entries see one another. Raises: `TemplateError`."""
    scope = planning.state.frame(spot.key).live[spot.index].scope
    values = {**planning.sight.handed(spot, scope), **_own_result(planning, spot, step)}
    if step.end_loop is None or not isinstance(step.result, Mapping):
        return planning.sight.render(step.result, planning.sight.lookup(spot, scope, values))
    result: dict[str, Any] = {}
    for key in _after_what_they_read(step.result):
        value = step.result[key]
        result[key] = planning.sight.render(value, planning.sight.lookup(spot, scope, {**values, **result}))
    return result


def _after_what_they_read(entries: Mapping[str, Any]) -> list[str]:
    """The keys of a map of templates, each after those that it reads: stored maps keep no order of their own."""
    reads = {key: names_read(value) & entries.keys() - {key} for key, value in entries.items()}
    ordered: list[str] = []
    while left := [key for key in sorted(reads) if key not in ordered]:
        ready = [key for key in left if reads[key] <= set(ordered)]
        ordered += ready or left
    return ordered


def _own_result(planning: Planning, spot: Spot, step: Step) -> dict[str, Any]:
    """What a step with an action of its own shows of it to its `result`."""
    if not step.has_work or step.name not in step.start_reads:
        return {}
    return {step.name: planning.sight.stored(spot)}


# -- loops -------------------------------------------------------------------------------------------


def _advance_loop(planning: Planning, spot: Spot, step: Step, live: Live) -> None:
    """Start the items that may start now; when none is left and none is running, end the step."""
    loop, counters = step.loop, live.loop
    assert loop is not None and counters is not None
    if count := startable(loop, counters):
        over_steps = loop.end is not None
        handed = {} if over_steps else planning.sight.handed(spot, live.scope)
        upcoming = range(counters.started, counters.started + count)
        if not over_steps:
            want_recorded(planning, spot, upcoming)
        for place in upcoming:
            _start_item(planning, spot, step, live, place, handed)
            if counters.failed and loop.on_error == "fail":
                break
    elif counters.finished == counters.started:
        _complete_loop(planning, spot, step, live)


def _start_item(planning: Planning, spot: Spot, step: Step, live: Live, place: int, handed: Mapping[str, Any]) -> None:
    """Start one item: its work is asked for, or its frame is opened by the event."""
    node_id = planning.sight.node_id(spot, place)
    where: dict[str, Any] = {"loop_name": step.name, "index": place}
    planning.emit(ev.LOOP_ITERATION, node_id, step.name, ev.NODE_ITERATION, status="running", **where)
    if step.loop is not None and step.loop.end is not None:
        return
    try:
        work = render_work(planning.sight, spot, live.scope, handed, place)
    except TemplateError as error:
        # The item fails like an action that failed: it is counted, and the loop's `on_error` decides.
        problem = problem_of(error)
        planning.sight.ended_here[node_id] = StepResult("error", None, problem)
        planning.emit(ev.ACTION_ERROR, node_id, step.name, ev.NODE_ITERATION, status="error", error=problem, **where)
        return
    submit(planning, spot, work)


def _complete_loop(planning: Planning, spot: Spot, step: Step, live: Live) -> None:
    loop, counters = step.loop, live.loop
    assert loop is not None and counters is not None
    node_id, failed = planning.sight.node_id(spot), counters.failed.bit_count()
    told = {"count": counters.finished, "failed": failed, "total": counters.total}
    status = "error" if failed else "success"
    planning.emit(ev.LOOP_COMPLETED, node_id, step.name, ev.NODE_LOOP, status=status, loop_name=step.name, result=told)
    planning.sight.ended_here[node_id] = StepResult("success")
    if failed and loop.on_error == "fail":
        first = (counters.failed & -counters.failed).bit_length() - 1
        message = f"{failed} of {counters.total} items failed, the first at index {first}"
        planning.fail_step(spot, {"code": "loop_item_failed", "message": message, "index": first})
        _stop_timers(planning, spot, step)
        return
    complete_step(planning, spot)
