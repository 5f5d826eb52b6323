"""How a plan asks for work: a job or a child; in a rerun, what the execution before had of the very same work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from executions.domain import events as ev
from executions.domain.commands import StartChild
from executions.domain.jobs import EnqueueJob
from executions.domain.planning import Planning
from executions.domain.results import StepResult
from executions.domain.sight import Spot
from executions.domain.wanted import MissingFacts, Wanted


def submit(planning: Planning, spot: Spot, work: EnqueueJob | StartChild) -> None:
    """Ask for the work of a step or of an item, unless its result can be reused. Raises: `MissingFacts`."""
    if _reuse(planning, spot, work):
        return
    if isinstance(work, StartChild):
        planning.decision.children.append(work)
    else:
        planning.decision.jobs.append(work)


def want_recorded(planning: Planning, spot: Spot, items: Iterable[int]) -> None:
    """Ask for what was recorded of all these items of a loop at once. Raises: `MissingFacts`."""
    if not _may_reuse(planning, spot):
        return
    nodes = {local_node(planning.sight.node_id(spot, item)) for item in items}
    if missing := nodes - planning.facts.recorded.keys():
        raise MissingFacts(Wanted(recorded=missing))


def local_node(node_id: str) -> str:
    """A node id without its execution: what two executions of one playbook have in common."""
    return node_id.partition(":")[2]


def _may_reuse(planning: Planning, spot: Spot) -> bool:
    reuse, step = planning.state.reuse, planning.step(spot)
    # A rerun is told of anew.
    return reuse is not None and step.notice is None and step.name not in reuse["fresh"]


def _reuse(planning: Planning, spot: Spot, work: EnqueueJob | StartChild) -> bool:
    """Take over a recorded success of the very same work."""
    if not _may_reuse(planning, spot):
        return False
    node = local_node(work.node_id)
    if node not in planning.facts.recorded:
        raise MissingFacts(Wanted(recorded={node}))
    recorded = planning.facts.recorded[node]
    if recorded is None or recorded.work != work_of(work):
        return False
    is_item = work.index is not None
    where: dict[str, Any] = {"loop_name": work.step, "index": work.index} if is_item else {}
    planning.sight.ended_here[work.node_id] = StepResult("success", recorded.data)
    planning.emit(
        ev.CHILD_COMPLETED if isinstance(work, StartChild) else ev.ACTION_COMPLETED,
        work.node_id,
        work.step,
        ev.NODE_ITERATION if is_item else ev.NODE_STEP,
        status="success",
        result=recorded.data,
        meta={"reused_from": (planning.state.reuse or {})["of"]},
        **where,
    )
    return True


def work_of(work: EnqueueJob | StartChild) -> dict[str, Any]:
    """What makes two pieces of work the same."""
    if isinstance(work, StartChild):
        return {"path": work.path, "version": work.version, "payload": work.payload}
    return work.action
