"""The planner: one event in, the decision out. The only place where the rules of docs/language.md are carried out.

`plan` is pure. It folds the event into the state, then settles: as long as something follows from the state, it
emits the event that says so and folds that too, so that a replay of the log gives the same state. It is read
from here: `_settle`, then the rooms beside it: how a step starts (`starting`), ends (`ending`), leads on (`leaving`),
and how it all ends (`unwinding`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.commands import SetTimer
from executions.domain.ending import end_step, next_due
from executions.domain.events import Event
from executions.domain.facts import Facts
from executions.domain.fold import apply
from executions.domain.frames import decode_frame
from executions.domain.leaving import leave
from executions.domain.planning import Decision, Planning
from executions.domain.sight import Spot
from executions.domain.starting import next_ready, start_step
from executions.domain.state import ROOT, State
from executions.domain.unwinding import advance_undoing, cancel, end_item, fail_execution, finish
from executions.domain.wanted import FrameKey, MissingFacts, Wanted

__all__ = ["Decision", "plan", "plan_news", "plan_next", "timers_of"]


def plan(playbook: Playbook, state: State, event: Event, facts: Facts) -> Decision:
    """Fold `event` into `state` (which is used up) and decide all that follows.

    Raises: `MissingFacts` when a template needs a stored value that was not loaded, `ImpossibleEvent`; after
    either, `state` must be thrown away.
    """
    return plan_news(playbook, state, [event], facts)


def plan_news(playbook: Playbook, state: State, news: Sequence[Event], facts: Facts) -> Decision:
    """`plan` after several events: what follows is decided once, from all of them."""
    if any(event.type == ev.EXECUTION_RESUMED for event in news) and not facts.all_frames:
        raise MissingFacts(Wanted(all_frames=True))
    for key, data in facts.frames.items():
        if data is not None and key not in state.frames:
            state.frames[key] = decode_frame(data)
    planning = Planning(playbook, state, facts)
    for event in news:
        apply(state, event, playbook)
        if event.type == ev.CANCEL_REQUESTED:
            planning.cancelled_by = event.meta
    _settle(planning, cancelling=planning.cancelled_by is not None or state.cancels > 0)
    if any(event.type == ev.EXECUTION_START for event in news):
        planning.decision.timers[:0] = timers_of(playbook, state, facts.execution_id, news)
    return planning.decision


def plan_next(playbook: Playbook, state: State, key: FrameKey, facts: Facts) -> Decision:
    """Decide the next thing that follows in one frame of `state` (which is used up), and nothing that comes after it.

    Raises: `MissingFacts`; `state` must be thrown away then.
    """
    planning = Planning(playbook, state, facts)
    _advance(planning, key)
    return planning.decision


def timers_of(playbook: Playbook, state: State, execution_id: str, news: Sequence[Event]) -> Iterator[SetTimer]:
    """The timers of the whole execution, when it is too late and when it is late, unless they have fired already.

    `state` is where it stands now: once its workflow is over, or out of time, they say nothing any more. When the state
    was lost, `news` is all that there was.
    """
    if state.phase or state.timed_out or state.is_terminal:
        return
    fired = {event.node_id for event in news if event.type == ev.TIMER_FIRED}
    if playbook.timeout_seconds is not None and execution_id not in fired:
        yield SetTimer(execution_id, "timeout", seconds=playbook.timeout_seconds)
    for step in playbook.steps:
        if step.notice is not None and step.notice.late_after_seconds is not None:
            node_id = ev.step_node_id(execution_id, step.name)
            if node_id not in fired:
                yield SetTimer(node_id, "late", seconds=step.notice.late_after_seconds)


def _settle(planning: Planning, *, cancelling: bool) -> None:
    """Act on everything that follows from the state until nothing does: the innermost frames first, in file order."""
    state = planning.state
    if cancelling and not state.is_terminal:
        cancel(planning)
    while state.status == "running":
        if state.timed_out and not state.phase:
            _time_out(planning)
        elif state.phase == "undoing":
            if not advance_undoing(planning):
                return
        elif (key := state.agenda.first()) is None:
            return
        elif not _advance(planning, key):
            state.agenda.discard(key)


def _advance(planning: Planning, key: FrameKey) -> bool:
    """Do the next thing in a frame. Returns: whether there was one."""
    frame = planning.state.frame(key)
    if (due := next_due(planning, frame)) is not None:
        end_step(planning, Spot(key, due))
    elif frame.ended:
        leave(planning, Spot(key, min(frame.ended)))
    elif (ready := next_ready(planning, frame)) is not None:
        start_step(planning, Spot(key, ready))
    elif not frame.is_quiet(beside=planning.tellings()):
        return False
    elif key:
        end_item(planning, key)
    else:
        _finish(planning)
    return True


def _finish(planning: Planning) -> None:
    """Nothing runs or waits: run `end` once if no branch reached it, else the workflow is over."""
    state = planning.state
    end = planning.playbook.index_by_name.get("end")
    listed = planning.state.override is not None
    if end is not None and not state.phase and not listed and not state.root.visit(end):
        start_step(planning, Spot(ROOT, end), reason="quiescence")
    else:
        finish(planning)


def _time_out(planning: Planning) -> None:
    seconds = planning.playbook.timeout_seconds or 0
    message = f"the execution was not over after {seconds:g} seconds"
    cause = {"code": "timeout", "message": message, "step": None, "node_id": planning.facts.execution_id}
    fail_execution(planning, cause)
