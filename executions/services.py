"""The transactions of executions: start, report, evaluate, reap, repair, cancel.

Each locks the execution first and its queue rows after (rule R2), and only here is the event log written.
What a step leads to is decided by `domain.planner`; this module loads what the planner asks for and stores
what it decides.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.conf import settings
from django.db import transaction

from catalog.api import find_playbook_version, load_playbook
from executions import store
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.facts import Facts, expected
from executions.domain.fold import apply, replay
from executions.domain.jobs import EnqueueJob
from executions.domain.planner import Decision, plan
from executions.domain.results import StepResult
from executions.domain.sight import job_uuid
from executions.domain.start import build_workload
from executions.domain.state import State
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import (
    EventIdTaken,
    ExecutionEnded,
    ImpossibleEvent,
    LogInconsistent,
    OutcomeRecorded,
    StartConflict,
)
from executions.failpoints import failpoint
from executions.nudges import Nudge, send_after_commit
from executions.store import LockedExecution, NewExecution
from queueing.api import (
    DEAD,
    DONE,
    EXTERNAL,
    FAILED,
    ExpiredLease,
    Fence,
    FinishedJob,
    Judgement,
    NewJob,
    ReapedLease,
    close_open_jobs,
    enqueue_jobs,
    find_job,
    finish_jobs,
    reap_lease,
    take_back_lease,
)
from queueing.api import requeue_dead_job as put_back_dead_job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of one leased job. `error` is `{code, message}` of a failed action.

    `posted_id` is the id that the worker gave the outcome's event, if it gave one.
    """

    fence: Fence
    status: Literal["success", "error"]
    data: Any = None
    error: Mapping[str, Any] | None = None
    traceback: str | None = None
    duration_seconds: float = 0.0
    posted_id: str | None = None


# -- start ------------------------------------------------------------------------------------------


def start_execution(
    path: str,
    version: str | None = None,
    payload: Any = None,
    *,
    merge: bool = False,
    idempotency_key: str | None = None,
    started_by: str = "",
) -> int:
    """Start an execution of a playbook and give its id; with a known `idempotency_key`, the id of the first start.

    Raises: `PlaybookNotFound`, `WorkloadInvalid`, `StartConflict`; nothing is started then.
    """
    found = find_playbook_version(path, version)
    playbook = load_playbook(found.id)
    payload = {} if payload is None else payload
    request = json.dumps([path, version, payload, merge], sort_keys=True, default=str)
    digest = hashlib.sha256(request.encode()).hexdigest()
    with transaction.atomic():
        execution_id = store.new_id()
        identity = job_uuid(str(execution_id))
        workload = build_workload(playbook, payload, settings.NOETL_TEMPLATE_ENV_VALUES, identity, merge=merge)
        new = NewExecution(
            execution_id, found.id, found.path, found.version, workload, idempotency_key, digest, started_by, {}
        )
        if not store.insert_execution(new):
            assert idempotency_key is not None
            return _earlier_start(idempotency_key, digest)
        locked = store.lock_execution(execution_id)
        start = Event(
            1, ev.EXECUTION_START, str(execution_id), playbook.name, ev.NODE_EXECUTION, status="running",
            context={"path": found.path, "version": found.version, "workload": workload},
        )  # fmt: skip
        store.append_events(execution_id, [start])
        locked.last_seq = start.seq
        _evaluate_here_or_later(locked)
    failpoint("start.committed")
    return execution_id


def _earlier_start(idempotency_key: str, digest: str) -> int:
    execution_id, before = store.find_start(idempotency_key)
    if before != digest:
        raise StartConflict(idempotency_key)
    return execution_id


# -- report -----------------------------------------------------------------------------------------


def report_results(execution_id: int, reports: Sequence[Report], *, evaluate_later: bool = False) -> list[Judgement]:
    """Accept the results of leased jobs of one execution and advance it, in one transaction.

    Row by row: a lost lease spares the rest. `evaluate_later` leaves the evaluation to the reconciler. A result with
    a valid fence on a terminal execution is recorded as `late_result`. Raises: `ExecutionNotFound`; `EventIdTaken`, and
    nothing is accepted then.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        # One fence given twice is one result: the later one repeats it.
        first = {report.fence: report for report in reversed(reports)}
        finished = finish_jobs(
            execution_id,
            list(first),
            [DONE if report.status == "success" else FAILED for report in first.values()],
        )
        events: list[Event] = []
        for report, job in zip(first.values(), finished, strict=True):
            if job.judgement == "accepted":
                if report.posted_id is not None and store.is_posted_id_taken(execution_id, report.posted_id):
                    raise EventIdTaken(report.posted_id)
                events.extend(_outcome_events(locked, report, job, len(events)))
        if events:
            store.append_events(execution_id, events)
            locked.last_seq = events[-1].seq
            if locked.is_terminal:
                store.set_last_seq(execution_id, locked.last_seq)
            elif evaluate_later:
                store.mark_for_evaluation(execution_id, locked.last_seq)
            else:
                _evaluate_here_or_later(locked)
        failpoint("report.inside")
    failpoint("report.committed")
    judged = {fence: job.judgement for fence, job in zip(first, finished, strict=True)}
    return _judgements(reports, judged)


def _judgements(reports: Sequence[Report], judged: Mapping[Fence, Judgement]) -> list[Judgement]:
    """A judgement per report; of one fence given twice the second is `already_accepted`."""
    told: set[Fence] = set()
    answers: list[Judgement] = []
    for report in reports:
        repeated = report.fence in told and judged[report.fence] == "accepted"
        answers.append("already_accepted" if repeated else judged[report.fence])
        told.add(report.fence)
    return answers


def _outcome_events(locked: LockedExecution, report: Report, job: FinishedJob, ahead: int) -> list[Event]:
    """`action_started` and the outcome of one accepted report; on a terminal execution a `late_result`."""
    seq = locked.last_seq + ahead + 1
    common = _about(job)
    meta = {"attempt": job.attempt, "job_id": str(job.job_id)}
    outcome: dict[str, Any] = {
        "status": report.status,
        "result": report.data,
        "error": _error_of(report),
        "traceback": report.traceback,
        "duration_seconds": report.duration_seconds,
        "posted_id": report.posted_id,
    }
    if locked.is_terminal:
        return [Event(seq, ev.LATE_RESULT, meta=meta, **common, **outcome)]
    type_ = ev.ACTION_COMPLETED if report.status == "success" else ev.ACTION_ERROR
    if job.origin == EXTERNAL:
        # Nothing to plan with: no step waits for a job that was enqueued by hand.
        return [Event(seq, ev.ANNOTATION, meta={**meta, "posted_type": type_}, **common, **outcome)]
    started = {**meta, "leased_at": _text(job.leased_at)}
    return [
        Event(seq, ev.ACTION_STARTED, status="running", meta=started, **common),
        Event(seq + 1, type_, meta=meta, **common, **outcome),
    ]


def _error_of(report: Report) -> dict[str, Any] | None:
    if report.status == "success":
        return None
    return {"code": "action_failed", "message": "the action failed without a message", **(report.error or {})}


def _about(job: FinishedJob | ReapedLease) -> dict[str, Any]:
    """The fields of an event that tell which job it is about."""
    is_item = job.item_index is not None
    return {
        "node_id": job.node_id,
        "node_name": job.node_name,
        "node_type": ev.NODE_ITERATION if is_item else ev.NODE_STEP,
        "loop_name": job.node_name if is_item else None,
        "index": job.item_index,
        "worker_id": job.worker_id,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


# -- evaluate ---------------------------------------------------------------------------------------


def evaluate_execution(execution_id: int) -> bool:
    """The broker evaluator: plan everything that has happened since the state and store what follows.

    Skips an execution that somebody else holds: the holder evaluates what it adds, and the reconciler looks again.
    Returns: whether this call held it.
    """
    with transaction.atomic():
        locked = store.lock_execution_if_free(execution_id)
        if locked is None:
            return False
        failpoint("evaluate.inside")
        if not locked.is_terminal:
            _evaluate_or_mark(locked)
    return True


def _evaluate_here_or_later(locked: LockedExecution) -> None:
    """Evaluate in this transaction; with `NOETL_EVALUATE_INLINE=0` leave it to the Celery task."""
    if settings.NOETL_EVALUATE_INLINE:
        _evaluate_or_mark(locked)
        return
    store.mark_for_evaluation(locked.id, locked.last_seq)
    send_after_commit(Nudge(evaluate=(locked.id,)))


def _evaluate_or_mark(locked: LockedExecution) -> None:
    """Evaluate under a savepoint: whatever goes wrong, what was reported stays, and is evaluated again later."""
    try:
        with transaction.atomic():
            new_jobs = _evaluate(locked)
    except Exception as error:
        # Not an action's failure but the evaluator's own, of any kind: an accepted result must survive it.
        logger.exception("evaluation of execution %s failed", locked.id)
        store.mark_for_evaluation(locked.id, locked.last_seq, error=f"{type(error).__name__}: {error}"[:1000])
        return
    send_after_commit(Nudge(new_jobs=new_jobs))


def _evaluate(locked: LockedExecution) -> Mapping[str, int]:
    """Plan all events since the state and store the decision. Returns: the new jobs by pool."""
    decision = _decide(locked)
    if decision is None:
        store.save_state(locked.id, locked.state(), None)
        return {}
    store.append_events(locked.id, decision.events)
    added = enqueue_jobs([_new_job(locked.id, job) for job in decision.jobs]) if decision.jobs else []
    if decision.close_jobs:
        close_open_jobs(locked.id)
    store.save_state(locked.id, decision.state, decision.events[-1] if decision.events else None)
    return Counter(pool for _, pool in added)


def _decide(locked: LockedExecution) -> Decision | None:
    """Plan the events since the state, or None when there are none.

    With no usable state that is the whole log: what had been planned before follows from it no more, and what had
    not is settled now.
    """
    playbook = load_playbook(locked.playbook_version_id)
    step_index = playbook.index_by_name.__getitem__
    state = locked.state()
    news = store.events_since(locked.id, state.seq)
    if not news:
        return None
    facts = _facts(locked, news)
    ended = {event.node_name for event in news if event.type in ev.OUTCOMES and event.index is None}
    store.load_facts(facts, _without(expected(playbook, state, facts.execution_id, ended), facts))
    while True:
        for event in news[:-1]:
            apply(state, event, step_index)
        try:
            return plan(playbook, state, news[-1], facts)
        except MissingFacts as missing:
            wanted = _without(missing.wanted, facts)
            if not wanted:
                raise LogInconsistent(locked.id, {"missing": str(missing.wanted)}) from None
            store.load_facts(facts, wanted)
            state = locked.state()


def _facts(locked: LockedExecution, news: Sequence[Event]) -> Facts:
    """What is known without a query: the workload, and the results that have just come in."""
    facts = Facts(
        execution_id=str(locked.id),
        recorded_at=locked.now.isoformat(),
        workload=locked.workload,
        env=settings.NOETL_TEMPLATE_ENV_VALUES,
    )
    for event in news:
        if event.type in ev.OUTCOMES and event.index is None:
            status: Literal["success", "error"] = "success" if event.type == ev.ACTION_COMPLETED else "error"
            facts.results[event.node_id] = StepResult(status, event.result, event.error)
    return facts


def _without(wanted: Wanted, facts: Facts) -> Wanted:
    """What is wanted and not yet known."""
    return Wanted(
        results=wanted.results - facts.results.keys(),
        loops=wanted.loops - facts.loops.keys(),
        transitions=wanted.transitions - facts.transitions.keys(),
        items=wanted.items - facts.items.keys(),
    )


def _new_job(execution_id: int, job: EnqueueJob) -> NewJob:
    return NewJob(
        execution_id=execution_id,
        node_id=job.node_id,
        node_name=job.step,
        kind=job.kind,
        action=job.action,
        context=job.context,
        uuid=job.uuid,
        item_index=job.index,
        timeout_seconds=job.timeout_seconds,
    )


# -- reap -------------------------------------------------------------------------------------------


def reap_expired_lease(expired: ExpiredLease) -> ReapedLease | None:
    """Take a job back from a worker that let its lease run out.

    The lease is judged again under the execution's lock; None when it was saved meanwhile, or when somebody works on
    the execution: the reconciler looks again. A job lost too often
    is dead: its action failed with `lease_exhausted`, and the execution goes on from there.
    """
    failpoint("reap.between")
    with transaction.atomic():
        locked = store.lock_execution_if_free(expired.execution_id)
        reaped = reap_lease(expired.job_id, expired.attempt) if locked is not None else None
        if locked is None or reaped is None:
            return None
        events = _lost_lease_events(locked, reaped)
        store.append_events(locked.id, events)
        locked.last_seq = events[-1].seq
        if len(events) > 1:
            _evaluate_here_or_later(locked)
        else:
            store.set_last_seq(locked.id, locked.last_seq)
    return reaped


def _lost_lease_events(locked: LockedExecution, reaped: ReapedLease) -> list[Event]:
    meta = {"attempt": reaped.attempt, "job_id": str(reaped.job_id), "lost_leases": reaped.lost_leases}
    common = {**_about(reaped), "meta": meta}
    seq = locked.last_seq + 1
    lost = Event(seq, ev.LEASE_LOST, status=reaped.status, **common)
    if reaped.status != DEAD or locked.is_terminal or reaped.origin == EXTERNAL:
        return [lost]
    message = f"the job's lease ran out {reaped.lost_leases} times: its workers died or hung"
    error = {"code": "lease_exhausted", "message": message}
    return [lost, Event(seq + 1, ev.ACTION_ERROR, status="error", error=error, **common)]


# -- repair -----------------------------------------------------------------------------------------


def release_lease(job_id: int, released_by: str) -> bool:
    """Take a leased job back from its worker for an operator: not counted, the worker's late report is `lease_lost`.

    The job waits for another worker, or is called off when its execution has ended.
    Returns: False when nobody held it. Raises: `JobNotFound`, `ExecutionNotFound`.
    """
    found = find_job(job_id)
    with transaction.atomic():
        locked = store.lock_execution(found.execution_id)
        taken = take_back_lease(job_id)
        if taken is None:
            return False
        meta = {"attempt": taken.attempt, "job_id": str(job_id), "reason": "released", "by": released_by}
        event = Event(locked.last_seq + 1, ev.LEASE_LOST, status=taken.status, meta=meta, **_about(taken))
        store.append_events(locked.id, [event])
        store.set_last_seq(locked.id, event.seq)
    logger.info("the lease of job %s was released by %s", job_id, released_by)
    return True


def requeue_dead_job(job_id: int, requeued_by: str) -> bool:
    """Queue a dead external job again, its lost leases forgotten.

    Returns: False when it is not dead (any more). Raises: `OutcomeRecorded` for a step's job, `ExecutionEnded`,
    `JobNotFound`, `ExecutionNotFound`; nothing is changed then.
    """
    found = find_job(job_id)
    if not found.is_external:
        raise OutcomeRecorded(job_id)
    with transaction.atomic():
        locked = store.lock_execution(found.execution_id)
        if locked.is_terminal:
            raise ExecutionEnded(locked.id, locked.status)
        requeued = put_back_dead_job(job_id)
    if requeued:
        logger.info("dead job %s was queued again by %s", job_id, requeued_by)
    return requeued


# -- cancel -----------------------------------------------------------------------------------------


def cancel_execution(execution_id: int, reason: str = "", cancelled_by: str = "") -> bool:
    """Cancel an execution: waiting jobs are called off, running ones are asked to stop.

    Returns: False when it had ended already. Raises: `ExecutionNotFound`.
    """
    with transaction.atomic():
        locked = store.lock_execution(execution_id)
        if locked.is_terminal:
            return False
        playbook = load_playbook(locked.playbook_version_id)
        event = Event(
            locked.last_seq + 1, ev.EXECUTION_CANCELLED, str(execution_id), playbook.name, ev.NODE_EXECUTION,
            status="cancelled", meta={"reason": reason, "by": cancelled_by},
        )  # fmt: skip
        store.append_events(execution_id, [event])
        close_open_jobs(execution_id)
        news = store.events_since(execution_id, locked.state().seq)
        try:
            state = replay(news, playbook.index_by_name.__getitem__, locked.state())
        except ImpossibleEvent:
            # A log that cannot be folded can still be ended; `verify` goes on telling of it.
            logger.exception("execution %s is cancelled over a log that cannot be folded", execution_id)
            state = State(seq=event.seq, status="cancelled")
        store.save_state(execution_id, state, event)
        failpoint("cancel.inside")
    return True
