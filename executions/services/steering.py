"""What people and other systems tell a running execution: cancel, pause, resume, signals, answers to approvals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from catalog.api import load_playbook
from executions import store
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.fold import apply, place_of
from executions.domain.state import State
from executions.errors import ApprovalClosed, ExecutionEnded, NotApprover, NotPausable
from executions.failpoints import failpoint
from executions.nudges import Nudge, send_after_commit
from executions.services.evaluation import cancel_locked, evaluate_here_or_later, evaluate_locked
from executions.services.turns import Turn
from executions.store import LockedExecution
from queueing.api import hold_open_jobs


@dataclass(frozen=True, slots=True)
class Approver:
    """Who answers an approval: the name, the groups, and whether every approval may be answered."""

    name: str
    groups: frozenset[str] = field(default_factory=frozenset)
    may_answer_all: bool = False


def cancel_execution(execution_id: int, reason: str = "", cancelled_by: str = "") -> bool:
    """Cancel an execution: waiting jobs are called off, running ones are asked to stop, children are cancelled.

    With `finally` steps those run first, and whom `notify` names is told; a second request ends that at once.
    Returns: False when it had ended already.
    Raises: `ExecutionNotFound`.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        if locked.is_terminal:
            return False
        cancel_locked(locked, reason, cancelled_by)
        failpoint("cancel.inside")
    return True


def pause_execution(execution_id: int, reason: str = "", paused_by: str = "") -> None:
    """Keep an execution from starting anything: what runs goes on to its end, which is kept until it is resumed.

    Folded at once, however evaluations go: the row's status is what everybody asks.
    Raises: `ExecutionNotFound`, `NotPausable` when it has ended or is paused.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        if locked.status != "running":
            raise NotPausable(execution_id, locked.status, "paused")
        _append(locked, ev.EXECUTION_PAUSED, status="paused", meta={"reason": reason, "by": paused_by})
        hold_open_jobs(execution_id, held=True)
        send_after_commit(evaluate_locked(locked).nudge)


def resume_execution(execution_id: int, resumed_by: str = "") -> None:
    """Let a paused execution go on from all that has happened meanwhile.

    Raises: `ExecutionNotFound`, `NotPausable` when it is not paused.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        if not locked.is_paused:
            raise NotPausable(execution_id, locked.status, "resumed")
        _append(locked, ev.EXECUTION_RESUMED, status="running", meta={"by": resumed_by})
        ready = hold_open_jobs(execution_id, held=False)
        send_after_commit(evaluate_locked(locked).nudge)
        send_after_commit(Nudge(new_jobs=ready))


def send_signal(execution_id: int, name: str, data: Any = None, sent_by: str = "") -> None:
    """Give an execution a signal: the first wait for it gets it; when there is none yet, it is kept for the first.

    Raises: `ExecutionNotFound`, `ExecutionEnded`.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        if locked.is_terminal:
            raise ExecutionEnded(execution_id, locked.status)
        _append(locked, ev.SIGNAL_RECEIVED, context={"name": name, "data": data, "by": sent_by})
        evaluate_here_or_later(locked)


def answer_approval(execution_id: int, place: str, *, approved: bool, answer: Any, approver: Approver) -> None:
    """Answer an approval that waits at a step or at a node (`place`).

    Raises: `ExecutionNotFound`, `ExecutionEnded`, `ApprovalClosed` when nothing waits there, `NotApprover`.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        if locked.is_terminal:
            raise ExecutionEnded(execution_id, locked.status)
        playbook = load_playbook(locked.playbook_version_id)
        asked = [(node, step) for node, step in store.open_approvals(execution_id) if place in (node, step)]
        waiting = next((found for found in asked if _is_running(locked, *found)), None)
        if waiting is None:
            raise ApprovalClosed(execution_id, place)
        node_id, step = waiting
        wait = playbook.steps[playbook.index_by_name[step]].wait
        allowed = set(wait.approvers) if wait is not None else set()
        if allowed and not approver.may_answer_all and not allowed & {approver.name, *approver.groups}:
            raise NotApprover(step, approver.name)
        data = {"approved": approved, "by": approver.name, "answer": answer}
        locked.last_seq += 1
        event = Event(
            locked.last_seq,
            ev.SIGNAL_RECEIVED,
            node_id,
            step,
            ev.NODE_STEP,
            status="success" if approved else "error",
            context={"data": data, "by": approver.name},
        )
        store.append_events(execution_id, [event])
        evaluate_here_or_later(locked)


def _is_running(locked: LockedExecution, node_id: str, step: str) -> bool:
    """Whether the step at a node runs: it does not when the item that it is in was called off."""
    turn = Turn(locked)
    news = store.events_since(locked.id, locked.state().seq)
    place = place_of(turn.playbook, Event(0, ev.SIGNAL_RECEIVED, node_id, step, ev.NODE_STEP))

    def ask(state: State) -> bool:
        for event in news:
            apply(state, event, turn.playbook)
        if not state.has_frame(place.key):
            return False
        frame = state.frame(place.key)
        return place.step in frame.live and frame.number(place.step) == place.visit

    return turn.ask(ask)


def _append(locked: LockedExecution, type_: str, **fields: Any) -> None:
    name = load_playbook(locked.playbook_version_id).name
    locked.last_seq += 1
    event = Event(locked.last_seq, type_, str(locked.id), name, ev.NODE_EXECUTION, **fields)
    store.append_events(locked.id, [event])
