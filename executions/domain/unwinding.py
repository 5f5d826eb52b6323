"""How an execution ends: what a failure calls off, `undo`, `finally`, notifications, and the terminal event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.domain.playbook import Occasion
from executions.domain import events as ev
from executions.domain.jobs import render_undo
from executions.domain.planning import Planning, problem_of
from executions.domain.results import StepResult
from executions.domain.sight import Spot
from executions.domain.state import ROOT, TERMINAL_STATUS
from executions.domain.wanted import FrameKey, MissingFacts, Wanted
from executions.errors import TemplateError

_EVENT_OF: dict[str, str] = {status: type_ for type_, status in TERMINAL_STATUS.items()}
_OCCASION_OF: dict[str, Occasion] = {"completed": "success", "failed": "failure", "cancelled": "cancelled"}


def fail_frame(planning: Planning, key: FrameKey, error: Mapping[str, Any], step: str, node_id: str) -> None:
    """End an item, or the execution, badly: `step` is the root cause, unless the error names one already."""
    cause = {"step": step, "node_id": node_id, **error}
    if key != ROOT:
        end_item(planning, key, cause)
    elif planning.state.phase == "finally":
        # Nothing comes after `finally`; the first failure of all is the execution's.
        planning.close_all()
        end_execution(planning, "failed", (planning.state.closing or {})["error"] or cause)
    else:
        fail_execution(planning, cause)


def end_item(planning: Planning, key: FrameKey, cause: Mapping[str, Any] | None = None) -> None:
    """End an item of a loop over several steps; what is still open of it is called off."""
    spot = Spot(key[:-2], key[-2])
    name, node_id = planning.step(spot).name, planning.sight.node_id(spot, key[-1])
    status = "success" if cause is None else "error"
    if cause is not None:
        planning.close_item(key)
    planning.sight.ended_here[node_id] = StepResult("success" if cause is None else "error", None, cause)
    planning.emit(
        ev.LOOP_ITERATION_COMPLETED,
        node_id,
        name,
        ev.NODE_ITERATION,
        status=status,
        error=cause,
        loop_name=name,
        index=key[-1],
    )


def fail_execution(planning: Planning, cause: Mapping[str, Any]) -> None:
    """End the execution as failed: undo first, then `finally`."""
    nodes = _nodes_to_undo(planning)
    planning.close_all()
    if not nodes:
        _finally_or_end(planning, "failed", cause)
        return
    context = {"status": "failed", "error": cause, "nodes": nodes}
    planning.emit_of_execution(ev.UNDO_STARTED, "running", context=context)
    _undo_next(planning)


def _nodes_to_undo(planning: Planning) -> list[str]:
    """The nodes of the steps that are to be undone, the newest first. Raises: `MissingFacts`."""
    names = {step.name for step in planning.playbook.steps if step.undo is not None}
    if not names:
        return []
    if planning.facts.completed is None:
        raise MissingFacts(Wanted(completed=True))
    here = [event.node_id for event in planning.decision.events if event.type == ev.STEP_COMPLETED]
    nodes = [*planning.facts.completed, *here]
    return [node for node in reversed(nodes) if ev.parse_node_id(node).step in names]


def advance_undoing(planning: Planning) -> bool:
    """Go on undoing. Returns: whether anything followed."""
    state = planning.state
    if not state.undo:
        closing = state.closing or {}
        _finally_or_end(planning, closing["status"], closing["error"])
        return True
    if not state.undo_outcome:
        return False
    node_id = state.undo[0]
    outcome = planning.facts.results.get(ev.undo_node_id(node_id))
    if outcome is None:
        raise MissingFacts(Wanted(results={ev.undo_node_id(node_id)}))
    _tell_undone(planning, node_id, outcome.error)
    _undo_next(planning)
    return True


def _tell_undone(planning: Planning, node_id: str, error: Any) -> None:
    status = "success" if error is None else "error"
    planning.emit(ev.STEP_UNDONE, node_id, ev.parse_node_id(node_id).step, status=status, error=error)


def _undo_next(planning: Planning) -> None:
    """Enqueue the next undoing; one that cannot be rendered has failed, and the rest goes on."""
    state = planning.state
    while state.undo:
        node_id = state.undo[0]
        spot = Spot(ROOT, planning.playbook.index_by_name[ev.parse_node_id(node_id).step])
        try:
            planning.decision.jobs.append(render_undo(planning.sight, spot, node_id, ev.undo_node_id(node_id)))
        except TemplateError as error:
            _tell_undone(planning, node_id, problem_of(error))
        else:
            return


def cancel(planning: Planning) -> bool:
    """Act on a request to cancel. Returns: whether anything followed."""
    state = planning.state
    if state.phase == "notifying":
        closing = state.closing or {}
        if state.cancels <= closing["cancels"]:
            return False
        # How it ended is settled: what is called off is the telling.
        planning.close_all()
        _write_end(planning, closing["status"], closing["error"])
        return True
    if state.phase == "finally":
        asked_already = (state.closing or {})["status"] == "cancelled"
        if asked_already and state.cancels < 2:
            return False
        planning.close_all()
        if asked_already:
            _write_end(planning, "cancelled", None)
        else:
            end_execution(planning, "cancelled")
        return True
    planning.close_all()
    _finally_or_end(planning, "cancelled", (state.closing or {}).get("error"))
    return True


def finish(planning: Planning) -> None:
    """End an execution in which nothing runs or waits any more."""
    closing = planning.state.closing
    if closing is not None:
        end_execution(planning, closing["status"], closing["error"])
    else:
        _finally_or_end(planning, "completed", None)


def _finally_or_end(planning: Planning, status: str, error: Mapping[str, Any] | None) -> None:
    steps = planning.playbook.finally_steps
    if not steps:
        end_execution(planning, status, error)
        return
    taken = [{"step": step, "inputs": {}} for step in steps]
    context = {"status": status, "error": error, "by": planning.cancelled_by, "taken": taken}
    event = planning.emit_of_execution(ev.FINALLY_STARTED, "running", context=context)
    planning.facts.transitions[event.seq] = {step: {} for step in steps}


def end_execution(planning: Planning, status: str, error: Mapping[str, Any] | None = None) -> None:
    """Tell whom the playbook names, then end the execution: what comes of the telling changes nothing."""
    occasion = _OCCASION_OF[status]
    steps = [step.name for step in planning.playbook.steps if step.notice is not None and occasion in step.notice.on]
    late = status == "completed" and bool(planning.state.root.live)
    if not (steps or late) or planning.state.phase == "notifying":
        _write_end(planning, status, error)
        return
    taken = [{"step": step, "inputs": {}} for step in steps]
    by = planning.cancelled_by or (planning.state.closing or {}).get("by")
    context = {"status": status, "error": error, "by": by, "taken": taken}
    if not late:
        # What is still open: jobs enqueued by hand; without a success also what tells of lateness.
        planning.close_all()
    event = planning.emit_of_execution(ev.NOTIFYING_STARTED, "running", context=context)
    planning.facts.transitions[event.seq] = {step: {} for step in steps}


def _write_end(planning: Planning, status: str, error: Mapping[str, Any] | None) -> None:
    """Write the terminal event."""
    result = _result(planning) if status == "completed" else None
    meta = None
    if status == "cancelled":
        by = (planning.state.closing or {}).get("by")
        # Who asks again while it is told has not cancelled it: it was over.
        meta = by if planning.state.phase == "notifying" else planning.cancelled_by or by
    planning.emit_of_execution(_EVENT_OF[status], status, result=result, error=error, meta=meta)
    # Those that were enqueued by hand, too: no step waits for them.
    planning.decision.close_all = True


def _result(planning: Planning) -> Any:
    """What `end` gave. Raises: `MissingFacts`."""
    end = planning.playbook.index_by_name.get("end")
    if end is None or planning.state.root.step_status(end) != "success":
        return None
    step = planning.playbook.steps[end]
    return planning.sight.stored(Spot(ROOT, end)).data if step.gives_result or step.loop is not None else None
