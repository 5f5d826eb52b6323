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
from executions.domain.saving import (
    begin_save,
    chunks_are_over,
    item_save_failure,
    kept_result,
    marks_of,
    next_chunk,
    save_chunk,
    save_failure,
)
from executions.domain.sight import Spot
from executions.domain.submitting import submit, want_recorded
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import TemplateError


def next_due(planning: Planning, frame: Frame) -> int | None:
    """The first running step, in file order, of which there is something new."""
    return next((index for index in places(frame.due) if _has_news(planning, index, frame.live[index])), None)


def _has_news(planning: Planning, index: int, live: Live) -> bool:
    loop, counters = planning.playbook.steps[index].loop, live.loop
    if live.save == "running":
        return live.fired == "timeout"
    if live.fired or counters is None or loop is None:
        return True
    if startable(loop, counters) > 0 or next_chunk(loop, counters) is not None:
        return True
    return counters.finished == counters.started and chunks_are_over(counters)


def end_step(planning: Planning, spot: Spot) -> None:
    """Act on what is new of a running step."""
    step, live = planning.step(spot), planning.state.frame(spot.key).live[spot.index]
    if live.fired == "timeout":
        _time_out(planning, spot, step)
    elif live.save:
        _end_saved(planning, spot, step, live)
    elif live.loop is not None:
        _advance_loop(planning, spot, step, live)
    elif live.outcome == "success":
        complete_step(planning, spot)
    elif live.outcome == "error":
        _fail(planning, spot, step, planning.sight.stored(spot))
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
    """End a step well, when what it saves is saved; its `result` is rendered now."""
    step, result = planning.step(spot), None
    if step.result is not None:
        try:
            result = _render_result(planning, spot, step)
        except TemplateError as error:
            planning.fail_step(spot, problem_of(error), None, marks_of(planning, spot))
            _stop_timers(planning, spot, step)
            return
    if step.save is not None and begin_save(planning, spot, _came_to(planning, spot, step, result), result):
        return
    _end_well(planning, spot, step, result)


def _came_to(planning: Planning, spot: Spot, step: Step, result: Any) -> StepResult:
    """What a step that goes well shows to its save. Raises: `MissingFacts`."""
    if step.result is not None:
        return StepResult("success", result)
    if step.loop is not None:
        return StepResult("success", planning.sight.loop_data(spot))
    return planning.sight.stored(spot) if step.has_work else StepResult("success")


def _fail(planning: Planning, spot: Spot, step: Step, own: StepResult) -> None:
    """End a step badly, when what it saves of that is saved."""
    if begin_save(planning, spot, own):
        return
    planning.fail_step(spot, own.error, None if step.loop is not None else own.data, marks_of(planning, spot))
    _stop_timers(planning, spot, step)


def _end_well(planning: Planning, spot: Spot, step: Step, result: Any) -> None:
    node_id, marks = planning.sight.node_id(spot), marks_of(planning, spot)
    fields: dict[str, Any] = {} if step.result is None else {"result": result}
    if fields or step.loop is not None or not step.has_work:
        # Of any other step the outcome of its work is its result.
        planning.sight.ended_here[node_id] = StepResult("success", result)
    planning.sight.marked_here[node_id] = marks
    planning.emit(ev.STEP_COMPLETED, node_id, step.name, status="success", meta=marks, **fields)
    _stop_timers(planning, spot, step)


def _end_saved(planning: Planning, spot: Spot, step: Step, live: Live) -> None:
    """The save of a step is over, and so is the step: as its work ended, or badly when the save must not fail."""
    failure = save_failure(planning, spot)
    if live.outcome == "error":
        _fail(planning, spot, step, planning.sight.stored(spot))
    elif live.loop is not None and (error := _loop_failure(planning, spot, step, live)) is not None:
        _fail(planning, spot, step, StepResult("error", None, error))
    elif failure is not None:
        data = planning.sight.stored(spot).data if step.has_work and step.loop is None else None
        _fail(planning, spot, step, StepResult("error", data, failure))
    else:
        _end_well(planning, spot, step, None if step.result is None else kept_result(planning, spot))


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
    """Start the items that may start now, save those that are over; when nothing is left, end the step."""
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
    elif (chunk := next_chunk(loop, counters)) is not None:
        save_chunk(planning, spot, step, chunk)
    elif counters.finished == counters.started and chunks_are_over(counters):
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
    counters = live.loop
    assert counters is not None
    node_id, failed = planning.sight.node_id(spot), counters.failed.bit_count()
    told = {"count": counters.finished, "failed": failed, "total": counters.total}
    status = "error" if failed else "success"
    planning.emit(ev.LOOP_COMPLETED, node_id, step.name, ev.NODE_LOOP, status=status, loop_name=step.name, result=told)
    planning.sight.ended_here[node_id] = StepResult("success")
    if (error := _loop_failure(planning, spot, step, live)) is None:
        complete_step(planning, spot)
    else:
        data = None if step.save is None else planning.sight.loop_data(spot)
        _fail(planning, spot, step, StepResult("error", data, error))


def _loop_failure(planning: Planning, spot: Spot, step: Step, live: Live) -> dict[str, Any] | None:
    """Why the step of a loop whose items are over fails, if it does. Raises: `MissingFacts`."""
    loop, counters = step.loop, live.loop
    assert loop is not None and counters is not None
    if counters.failed and loop.on_error == "fail":
        first = (counters.failed & -counters.failed).bit_length() - 1
        message = f"{counters.failed.bit_count()} of {counters.total} items failed, the first at index {first}"
        return {"code": "loop_item_failed", "message": message, "index": first}
    return item_save_failure(planning, spot, step, counters)
