"""One planning: the state as it advances, and the decision as it grows. What all rules of the planner write through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Playbook, Step
from executions.domain import events as ev
from executions.domain.commands import SetTimer, StartChild
from executions.domain.conditions import Verdict
from executions.domain.events import Event
from executions.domain.facts import Facts
from executions.domain.fold import apply
from executions.domain.frames import places
from executions.domain.jobs import EnqueueJob
from executions.domain.results import StepResult
from executions.domain.sight import Sight, Spot
from executions.domain.state import State, path_of
from executions.domain.wanted import FrameKey
from executions.errors import TemplateError


@dataclass(slots=True)
class Decision:
    """What follows from an event: the new state, the events to append, and what the shell is to do after them.

    First it calls off what is open: at the nodes of `close_nodes` (ids without a visit) and below them, or everywhere
    (`close_all`); then it enqueues `jobs`, starts `children` and sets `timers`.
    """

    state: State
    events: list[Event] = field(default_factory=list)
    jobs: list[EnqueueJob] = field(default_factory=list)
    children: list[StartChild] = field(default_factory=list)
    timers: list[SetTimer] = field(default_factory=list)
    close_nodes: list[str] = field(default_factory=list)
    close_all: bool = False


class Planning:
    """One planning of one execution."""

    def __init__(self, playbook: Playbook, state: State, facts: Facts) -> None:
        self.playbook = playbook
        self.state = state
        self.facts = facts
        self.decision = Decision(state)
        self.sight = Sight(playbook, state, facts)
        self.cancelled_by: Any = None
        """`meta` of the request to cancel, when this planning has one."""

    def step(self, spot: Spot) -> Step:
        """The step at a spot."""
        return self.playbook.steps[spot.index]

    def tellings(self) -> int:
        """A bitmap of the steps that the workflow and its `finally` do not wait for; the last event does."""
        return 0 if self.state.phase == "notifying" else self.playbook.notices

    # -- events -------------------------------------------------------------------------------------

    def emit(self, type_: str, node_id: str, name: str, node_type: str = ev.NODE_STEP, **fields: Any) -> Event:
        """Append an event to the decision and fold it."""
        event = Event(self.state.seq + 1, type_, node_id, name, node_type, **fields)
        apply(self.state, event, self.playbook)
        self.decision.events.append(event)
        return event

    def emit_of_execution(self, type_: str, status: str, **fields: Any) -> Event:
        """Append an event about the execution as a whole."""
        return self.emit(type_, self.facts.execution_id, self.playbook.name, ev.NODE_EXECUTION, status=status, **fields)

    def warn(self, node_id: str, name: str, verdict: Verdict) -> None:
        """Tell of a condition that could not be evaluated."""
        self.emit(
            ev.WARNING,
            node_id,
            name,
            status="warning",
            context=verdict.explain(),
            error={"message": verdict.warning},
        )

    def fail_step(self, spot: Spot, error: Mapping[str, Any], data: Any = None, meta: Any = None) -> None:
        """End a running step badly; its frame decides what that leads to."""
        node_id = self.sight.node_id(spot)
        self.sight.ended_here[node_id] = StepResult("error", data, error)
        self.sight.marked_here[node_id] = meta
        self.emit(ev.STEP_FAILED, node_id, self.step(spot).name, status="error", error=error, meta=meta)

    # -- calling off --------------------------------------------------------------------------------

    def close_step(self, spot: Spot) -> None:
        """Call off what is open of a step, of the items of its loop and of their bodies."""
        steps = [spot.index, *places(self.playbook.bodies.get(spot.index, 0))]
        self._close([self._node_root(step, path_of(spot.key)) for step in steps])

    def close_item(self, key: FrameKey) -> None:
        """Call off what is open in the frame of an item."""
        self._close([self._node_root(step, path_of(key)) for step in places(self.playbook.bodies[key[-2]])])

    def close_all(self) -> None:
        """Call off everything, what this planning has asked for included."""
        decision = self.decision
        decision.close_all = True
        decision.jobs.clear()
        decision.children.clear()
        decision.timers.clear()

    def _node_root(self, step: int, path: tuple[int, ...]) -> str:
        return ev.step_node_id(self.facts.execution_id, self.playbook.steps[step].name, 1, path)

    def _close(self, roots: list[str]) -> None:
        decision = self.decision
        decision.close_nodes.extend(roots)
        decision.jobs[:] = [job for job in decision.jobs if not is_under(job.node_id, roots)]
        decision.children[:] = [child for child in decision.children if not is_under(child.node_id, roots)]
        decision.timers[:] = [timer for timer in decision.timers if not is_under(timer.node_id, roots)]


def is_under(node_id: str, roots: list[str]) -> bool:
    """Whether a node is at or below one of these nodes, in any visit."""
    return any(node_id == root or node_id.startswith((f"{root}:", f"{root}#")) for root in roots)


def problem_of(error: TemplateError) -> dict[str, Any]:
    """A template's failure as an event's error."""
    return {"code": error.code, "message": str(error), "template": error.template}
