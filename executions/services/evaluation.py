"""The broker evaluator: what follows from the events of one execution is planned, stored and carried out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from catalog.api import Playbook, load_playbook
from executions import store
from executions.domain import events as ev
from executions.domain import state as states
from executions.domain.events import Event
from executions.domain.fold import apply, replay
from executions.domain.frames import encode_frame
from executions.domain.jobs import EnqueueJob
from executions.domain.planner import Decision
from executions.domain.state import ROOT, State
from executions.errors import EventsTooNew, ImpossibleEvent
from executions.failpoints import failpoint
from executions.nudges import Nudge, send_after_commit
from executions.services.children import start_children, take_in_ended
from executions.services.turns import Turn
from executions.store import LockedExecution
from queueing.api import (
    DEFAULT_POOL,
    LeasedJob,
    Limit,
    NewJob,
    Take,
    close_jobs_at,
    close_open_jobs,
    enqueue_jobs,
    enqueue_leased_jobs,
)

logger = logging.getLogger(__name__)

PARENT_ENDED = "the execution that started it waits for it no more"


def evaluate_execution(execution_id: int, *, wait: bool = False) -> bool:
    """Take in what has ended below an execution, plan everything that has happened since the state, store what follows.

    Skips an execution that somebody else holds: the holder evaluates what it adds, and the reconciler looks again.
    `wait`: wait for it instead; a child has ended, which the holder does not know.
    Returns: whether this call held it. Raises: `ExecutionNotFound` when it waits.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id) if wait else store.lock_execution_if_free(execution_id)
        if locked is None:
            return False
        failpoint("evaluate.inside")
        if locked.is_terminal:
            return True
        if locked.cancel_reason is not None:
            _cancel_or_mark(locked, locked.cancel_reason)
            return True
        ended, are_more = take_in_ended(locked)
        if are_more:
            send_after_commit(Nudge(parents=(execution_id,)))
        if not locked.is_paused:
            evaluate_or_mark(locked)
        elif ended:
            store.set_last_seq(execution_id, locked.last_seq)
    return True


def fire_timers(execution_id: int) -> int:
    """Tell an execution of the timers whose time has come. Returns: how many; none when somebody else holds it."""
    with transaction.atomic():
        locked = store.lock_execution_if_free(execution_id)
        due = store.take_due_timers(execution_id) if locked is not None else []
        if locked is None or not due or locked.is_terminal:
            return 0
        name = load_playbook(locked.playbook_version_id).name
        events = [
            Event(
                locked.last_seq + place,
                ev.TIMER_FIRED,
                timer.node_id,
                name if timer.node_id == str(execution_id) else ev.parse_node_id(timer.node_id).step,
                ev.NODE_EXECUTION if timer.node_id == str(execution_id) else ev.NODE_STEP,
                context={"kind": timer.kind, "due_at": timer.due_at.isoformat()},
            )
            for place, timer in enumerate(due, 1)
        ]
        store.append_events(execution_id, events)
        locked.last_seq = events[-1].seq
        evaluate_here_or_later(locked)
    return len(due)


def evaluate_here_or_later(locked: LockedExecution) -> None:
    """Evaluate in this transaction; with `NOETL_EVALUATE_INLINE=0` leave it to the Celery task.

    What comes to a paused execution is kept until it goes on.
    """
    if locked.is_paused:
        store.set_last_seq(locked.id, locked.last_seq)
    elif settings.NOETL_EVALUATE_INLINE:
        evaluate_or_mark(locked)
    else:
        store.mark_for_evaluation(locked.id, locked.last_seq)
        send_after_commit(Nudge(evaluate=(locked.id,)))


def evaluate_or_mark(locked: LockedExecution) -> None:
    """Evaluate under a savepoint: whatever goes wrong, what was reported stays, and is evaluated again later."""
    try:
        nudge = _evaluate_apart(locked)
    except Exception as error:
        # Not an action's failure but the evaluator's own, of any kind: an accepted result must survive it.
        logger.exception("evaluation of execution %s failed", locked.id)
        _put_off(locked, error)
        return
    send_after_commit(nudge)


def _put_off(locked: LockedExecution, error: Exception) -> None:
    store.mark_for_evaluation(locked.id, locked.last_seq, error=f"{type(error).__name__}: {error}"[:1000])


def _evaluate_apart(locked: LockedExecution) -> Nudge:
    """Evaluate under a savepoint. Whatever goes wrong, `locked` is as its row is again, and it is raised."""
    before = locked.status, locked.last_seq, locked.state_data
    try:
        with transaction.atomic():
            return evaluate_locked(locked).nudge
    except Exception:
        # `_save` tells it of the new state before the database has taken it.
        locked.status, locked.last_seq, locked.state_data = before
        raise


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Whom to tell after the commit, and what gives the jobs that a worker has then already (None: it has none)."""

    nudge: Nudge
    leased: Callable[[], list[LeasedJob]] | None = None


def evaluate_locked(locked: LockedExecution, take: Take | None = None) -> Evaluated:
    """Plan all events since the state and carry out what is decided; `locked` is then as its row is.

    `take`: a worker that goes on with the new jobs, when they are no more than it would like to have.
    """
    effects = _Effects(take)
    while True:
        turn = Turn(locked)
        decision = turn.decide()
        if decision is None:
            store.save_state(locked.id, locked.state(), None)
            break
        answers = _carry_out(locked, turn, decision, effects)
        if all(event.type == ev.CHILD_STARTED for event in answers):
            for event in answers:
                apply(decision.state, event, turn.playbook)
            _save(locked, turn, decision)
            break
        # A child that cannot be started is an outcome like any other: what follows from it is planned next.
        _save(locked, turn, decision)
    return Evaluated(effects.nudge(locked), effects.leased)


@dataclass(slots=True)
class _Effects:
    """What the world outside should hear of: new jobs by pool, executions that wait for an evaluation."""

    take: Take | None = None
    leased: Callable[[], list[LeasedJob]] | None = None
    new_jobs: Counter[str] = field(default_factory=Counter)
    others: list[int] = field(default_factory=list)

    def enqueue(self, jobs: list[NewJob]) -> None:
        """Put jobs into the queue, and into the hands of the worker that takes them."""
        take = self.take
        # Whether there is room at a job's limits is judged when it is leased from the queue.
        is_free = all(job.pool in take.pools and not job.limits for job in jobs) if take is not None else False
        if take is not None and len(jobs) <= take.count and is_free:
            self.leased = enqueue_leased_jobs(jobs, take)
            self.take = None
        else:
            self.new_jobs.update(pool for _, pool in enqueue_jobs(jobs))

    def nudge(self, locked: LockedExecution) -> Nudge:
        """As a nudge; the parent of an execution that has ended hears of it, too."""
        parent = locked.parent_execution_id
        parents = (parent,) if parent is not None and locked.is_terminal else ()
        return Nudge(new_jobs=self.new_jobs, evaluate=tuple(self.others), parents=parents)


def _carry_out(locked: LockedExecution, turn: Turn, decision: Decision, effects: _Effects) -> list[Event]:
    """Append the decision's events, call off what it closes, ask for what it starts.

    Returns: the events, appended as well, that tell how children were started.
    """
    store.append_events(locked.id, [*locked.take_unwritten(), *decision.events])
    if decision.close_all:
        effects.others += close_everything(locked.id)
    elif decision.close_nodes:
        effects.others += _close_nodes(locked.id, turn.playbook, decision.close_nodes)
    if decision.jobs:
        effects.enqueue([new_job(locked, turn.playbook, job) for job in decision.jobs])
    store.set_timers(locked.id, decision.timers)
    children, answers = start_children(locked, decision.children, decision.state.seq + 1)
    store.append_events(locked.id, answers)
    effects.others += children
    return answers


def _save(locked: LockedExecution, turn: Turn, decision: Decision) -> None:
    state = decision.state
    last = decision.events[-1] if decision.events else None
    # What follows the last decided event may be `child_started`: the state has folded it.
    terminal = last if last is not None and last.type in ev.TERMINAL else None
    store.save_state(locked.id, state, terminal)
    save_frames(locked.id, state, rebuilt=turn.is_rebuilding)
    locked.status = state.status
    locked.last_seq = max(locked.last_seq, state.seq)
    locked.state_data = states.encode(state)


def save_frames(execution_id: int, state: State, *, rebuilt: bool) -> None:
    """Store the frames that have changed since the state was read; all of them when it was rebuilt."""
    keys = state.frames.keys() if rebuilt else state.dirty & state.frames.keys()
    changed = {key: encode_frame(state.frames[key]) for key in keys if key != ROOT}
    store.save_frames(execution_id, changed, {ROOT} if rebuilt else state.dropped)


def close_everything(execution_id: int) -> list[int]:
    """Call off all that is open of an execution. Returns: the children that are to cancel themselves."""
    close_open_jobs(execution_id)
    store.drop_timers(execution_id)
    return store.close_children(execution_id, PARENT_ENDED)


def _close_nodes(execution_id: int, playbook: Playbook, nodes: list[str]) -> list[int]:
    """Call off what is open at these nodes, and look only where a step can have it."""
    steps = {node: playbook.steps[playbook.index_by_name[ev.parse_node_id(node).step]] for node in nodes}
    if with_jobs := [node for node, step in steps.items() if step.action is not None or step.saves]:
        close_jobs_at(execution_id, with_jobs)
    store.drop_timers(execution_id, [node for node, step in steps.items() if step.wait or step.timeout_seconds])
    if with_children := [node for node, step in steps.items() if step.child is not None]:
        return store.close_children(execution_id, PARENT_ENDED, with_children)
    return []


def new_job(locked: LockedExecution, playbook: Playbook, job: EnqueueJob) -> NewJob:
    """Whose workers run it, and when, is said by the step before anybody else."""
    return NewJob(
        execution_id=locked.id,
        node_id=job.node_id,
        node_name=job.step,
        kind=job.kind,
        action=job.action,
        context=job.context,
        uuid=job.uuid,
        item_index=job.index,
        timeout_seconds=job.timeout_seconds,
        pool=job.pool or playbook.pool or settings.NOETL_POOLS_BY_KIND.get(job.kind, DEFAULT_POOL),
        priority=locked.priority if job.priority is None else job.priority,
        limits=tuple(_limits_of(playbook, job)),
    )


def _limits_of(playbook: Playbook, job: EnqueueJob) -> Iterator[Limit]:
    """The playbook's and the step's; the names of paths and the keys of steps are apart."""
    if job.limit_key is not None and job.limit_max is not None:
        yield Limit(f"key:{job.limit_key}", job.limit_max)
    if playbook.max_running_jobs is not None:
        yield Limit(f"playbook:{playbook.path}", playbook.max_running_jobs)


# -- cancelling --------------------------------------------------------------------------------------


def cancel_locked(locked: LockedExecution, reason: str, cancelled_by: str) -> None:
    """Ask a running execution to end as cancelled, and plan at once what that leads to. Raises: `EventsTooNew`."""
    playbook = load_playbook(locked.playbook_version_id)
    meta = {"reason": reason, "by": cancelled_by}
    event = Event(locked.last_seq + 1, ev.CANCEL_REQUESTED, str(locked.id), playbook.name, ev.NODE_EXECUTION, meta=meta)
    store.append_events(locked.id, [event])
    store.forget_cancel_request(locked.id)
    locked.last_seq = event.seq
    try:
        nudge = _evaluate_apart(locked)
    except (OperationalError, InterfaceError, EventsTooNew):
        # Whoever can will do it: of a log that is too new nothing is wrong.
        raise
    except Exception:
        # A log that cannot be folded can still be ended; `verify` goes on telling of it.
        logger.exception("execution %s is cancelled without its plan", locked.id)
        nudge = _end_unplanned(locked, playbook, meta)
    send_after_commit(nudge)


def _cancel_or_mark(locked: LockedExecution, reason: str) -> None:
    """Cancel it as its parent asks; of a log that is too new the request stays, and is acted on later."""
    last_seq = locked.last_seq
    try:
        with transaction.atomic():
            cancel_locked(locked, reason, f"execution {locked.parent_execution_id}")
    except EventsTooNew as error:
        logger.warning("execution %s cannot be cancelled yet: %s", locked.id, error)
        locked.last_seq = last_seq
        _put_off(locked, error)


def _end_unplanned(locked: LockedExecution, playbook: Playbook, meta: dict[str, str]) -> Nudge:
    event = Event(
        locked.last_seq + 1,
        ev.EXECUTION_CANCELLED,
        str(locked.id),
        playbook.name,
        ev.NODE_EXECUTION,
        status="cancelled",
        meta=meta,
    )
    store.append_events(locked.id, [event])
    children = close_everything(locked.id)
    try:
        state = replay(store.events_since(locked.id, 0, whole=False), playbook)
    except ImpossibleEvent:
        state = State(seq=event.seq, status="cancelled")
    store.save_state(locked.id, state, event)
    save_frames(locked.id, state, rebuilt=True)
    locked.status, locked.last_seq = "cancelled", event.seq
    return _Effects(others=children).nudge(locked)
