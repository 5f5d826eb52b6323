"""What workers say of leased jobs, and what is known of those that say nothing any more."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from executions import store
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.facts import known_from
from executions.domain.fold import apply
from executions.domain.lines import JobLines, LogLine
from executions.domain.outcomes import JobPlace, as_retry, late_result, outcome_events, outside_outcome
from executions.domain.retries import judge, may_retry
from executions.domain.secrets import gives_secret, secret_result
from executions.domain.state import State
from executions.errors import EventIdTaken, ExecutionNotFound, ImpossibleEvent
from executions.failpoints import failpoint
from executions.nudges import Nudge, send_after_commit
from executions.services.evaluation import evaluate_here_or_later, evaluate_locked
from executions.services.turns import Turn
from executions.store import LockedExecution
from queueing.api import (
    DEAD,
    DONE,
    EXTERNAL,
    FAILED,
    ExpiredLease,
    Fence,
    FinishedJob,
    Judgement,
    LeasedJob,
    ReapedLease,
    Take,
    finish_jobs,
    get_held_job,
    lease_jobs,
    query_jobs,
    reap_lease,
    retry_job,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of one leased job. `error` is `{code, message}` of a failed action.

    `posted_id` is the id that the worker gave the outcome's event, if it gave one. `log` is what the action printed and
    logged since the worker last told of it.
    """

    fence: Fence
    status: Literal["success", "error"]
    data: Any = None
    error: Mapping[str, Any] | None = None
    traceback: str | None = None
    duration_seconds: float = 0.0
    posted_id: str | None = None
    log: Sequence[LogLine] = ()


def report_results(execution_id: int, reports: Sequence[Report], *, evaluate_later: bool = False) -> list[Judgement]:
    """Accept the results of leased jobs of one execution and advance it, in one transaction.

    Row by row: a lost lease spares the rest. A failure whose step has another try queues the job again.
    `evaluate_later` leaves the evaluation to the reconciler. A result with a valid fence that nothing waits for any
    more is recorded as `late_result`. Raises: `ExecutionNotFound`; `EventIdTaken`, and nothing is accepted then.
    """
    return report_and_take(execution_id, reports, None, evaluate_later=evaluate_later)[0]


def report_and_take(
    execution_id: int, reports: Sequence[Report], take: Take | None, *, evaluate_later: bool = False
) -> tuple[list[Judgement], list[LeasedJob]]:
    """`report_results`, and lease in the same transaction what the worker takes next of this execution.

    Returns: a judgement per report, and the leased jobs.
    """
    return _whatever_follows(
        lambda put_off, error: _accept(execution_id, reports, take, put_off=put_off or evaluate_later, error=error)
    )


def _whatever_follows(transact: Callable[[bool, str], T]) -> T:
    """Run a transaction that evaluates what it brings; when that fails, again, with the evaluation put off.

    What was reported must survive whatever the evaluator fails with. Raises: what is not the evaluator's failure.
    """
    try:
        return transact(False, "")
    except (OperationalError, InterfaceError, ExecutionNotFound, EventIdTaken):
        raise
    except Exception as failure:
        # Of any kind: what is left is a defect of the evaluator or of what it planned.
        logger.exception("the evaluation failed, and is put off")
        return transact(True, f"{type(failure).__name__}: {failure}"[:1000])


def _accept(
    execution_id: int, reports: Sequence[Report], take: Take | None, *, put_off: bool, error: str = ""
) -> tuple[list[Judgement], list[LeasedJob]]:
    with transaction.atomic():
        lock = store.ask_for_lock(execution_id)
        # One fence given twice is one result: the later one repeats it.
        first = {report.fence: report for report in reversed(reports)}
        finished = finish_jobs(
            execution_id,
            list(first),
            [DONE if report.status == "success" else FAILED for report in first.values()],
        )
        locked = lock()
        events: list[Event] = []
        logged: list[JobLines] = []
        leased: Callable[[], list[LeasedJob]] | None = None
        for report, job in zip(first.values(), finished, strict=True):
            if job.judgement == "accepted":
                if report.posted_id is not None and store.find_posted(execution_id, report.posted_id) is not None:
                    raise EventIdTaken(report.posted_id)
                events.extend(_events_of(locked, report, job, events))
                if report.log:
                    logged.append(JobLines(job.node_id, job.node_name, job.attempt, job.item_index, report.log))
        if logged:
            # `first` has the last report first.
            store.append_lines(execution_id, logged[::-1])
        if events:
            locked.take_in(events)
            leased = _go_on(locked, events, take, put_off=put_off, error=error)
        if leased is None and take is not None and not locked.is_terminal and not locked.is_paused:
            found = lease_jobs(take.worker_id, take.pools, take.count, take.lease_seconds, execution_id=execution_id)
            leased = partial(list, found)
        failpoint("report.inside")
    failpoint("report.committed")
    judged = {fence: job.judgement for fence, job in zip(first, finished, strict=True)}
    return _judgements(reports, judged), leased() if leased is not None else []


def _go_on(
    locked: LockedExecution, events: Sequence[Event], take: Take | None, *, put_off: bool, error: str
) -> Callable[[], list[LeasedJob]] | None:
    """Append what was taken in, and evaluate it when that is due here and now. Returns: what gives what it leased."""
    is_planned = not locked.is_terminal and any(event.type not in ev.ANNOTATIONS for event in events)
    if is_planned and settings.NOETL_EVALUATE_INLINE and not (put_off or locked.is_paused):
        evaluated = evaluate_locked(locked, take)
        send_after_commit(evaluated.nudge)
        return evaluated.leased
    store.append_events(locked.id, locked.take_unwritten())
    if not is_planned:
        store.set_last_seq(locked.id, locked.last_seq)
    elif put_off and not locked.is_paused:
        store.mark_for_evaluation(locked.id, locked.last_seq, error=error)
    else:
        evaluate_here_or_later(locked)
    return None


def _judgements(reports: Sequence[Report], judged: Mapping[Fence, Judgement]) -> list[Judgement]:
    """A judgement per report; of one fence given twice the second is `already_accepted`."""
    told: set[Fence] = set()
    answers: list[Judgement] = []
    for report in reports:
        repeated = report.fence in told and judged[report.fence] == "accepted"
        answers.append("already_accepted" if repeated else judged[report.fence])
        told.add(report.fence)
    return answers


def _events_of(locked: LockedExecution, report: Report, job: FinishedJob, before: Sequence[Event]) -> list[Event]:
    """The events of one accepted report; `before` are those of the reports accepted with it."""
    seq = locked.last_seq + len(before) + 1
    place = _place_of(job)
    report = _without_value(report, job)
    meta = {"attempt": job.attempt, "job_id": str(job.job_id)}
    if locked.is_terminal or (job.called_off and job.origin != EXTERNAL):
        return [late_result(seq, place, report, meta)]
    if job.origin == EXTERNAL:
        return [outside_outcome(seq, place, report, meta)]
    started, outcome = outcome_events(seq, place, report, meta, _text(job.leased_at))
    if outcome.type == ev.ACTION_ERROR:
        tries = job.tries + 1
        delay = _delay_of_retry(locked, [*before, started], outcome, tries)
        if delay is not None and (pool := retry_job(job.job_id, delay)) is not None:
            if delay == 0:
                send_after_commit(Nudge(new_jobs={pool: 1}))
            return [started, as_retry(outcome, tries, delay)]
    return [started, outcome]


def _without_value(report: Report, job: FinishedJob) -> Report:
    """The report; of a secret's job with a reference for its result, whatever its worker told."""
    if not gives_secret(job.kind):
        return report
    if report.status != "success":
        return replace(report, data=None)
    action = query_jobs(id=job.job_id).values_list("action", flat=True).get()
    # Nobody outside can guess the name of what was fetched.
    return replace(report, data=secret_result(report.data, job.node_name, action, secrets.token_hex(12)))


def _delay_of_retry(locked: LockedExecution, before: Sequence[Event], outcome: Event, tries: int) -> float | None:
    """Seconds until the next try of a failed job; None when it has none."""
    turn = Turn(locked)
    if not may_retry(turn.playbook):
        return None
    news = [*store.events_since(locked.id, locked.state().seq), *before]
    known_from(news, turn.facts)

    def ask(state: State) -> float | None:
        for event in news:
            apply(state, event, turn.playbook)
        return judge(turn.playbook, state, turn.facts, outcome, tries)

    try:
        return turn.ask(ask)
    except ImpossibleEvent:
        # The evaluation will say so; a retry is no way out of a log that cannot be folded.
        return None


def _place_of(job: FinishedJob | ReapedLease) -> JobPlace:
    return JobPlace(job.node_id, job.node_name, job.item_index, job.worker_id)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def append_log(fence: Fence, lines: Sequence[LogLine]) -> None:
    """Keep what an action has logged so far, while it runs: for whoever holds its lease. Raises: `LeaseLost`."""
    with transaction.atomic():
        job = get_held_job(fence)
        store.append_lines(
            job.execution_id, [JobLines(job.node_id, job.node_name, fence.attempt, job.item_index, lines)]
        )


# -- reap -------------------------------------------------------------------------------------------


def reap_expired_lease(expired: ExpiredLease) -> ReapedLease | None:
    """Take a job back from a worker that let its lease run out.

    The lease is judged again under the execution's lock; None when it was saved meanwhile, or when somebody works on
    the execution: the reconciler looks again. A job lost too often
    is dead: its action failed with `lease_exhausted`, and the execution goes on from there.
    """
    failpoint("reap.between")
    return _whatever_follows(lambda put_off, error: _reap(expired, put_off=put_off, error=error))


def _reap(expired: ExpiredLease, *, put_off: bool, error: str) -> ReapedLease | None:
    with transaction.atomic():
        locked = store.lock_execution_if_free(expired.execution_id)
        reaped = reap_lease(expired.job_id, expired.attempt) if locked is not None else None
        if locked is None or reaped is None:
            return None
        events = _lost_lease_events(locked, reaped)
        locked.take_in(events)
        _go_on(locked, events, None, put_off=put_off, error=error)
    return reaped


def _lost_lease_events(locked: LockedExecution, reaped: ReapedLease) -> list[Event]:
    meta = {"attempt": reaped.attempt, "job_id": str(reaped.job_id), "lost_leases": reaped.lost_leases}
    common: dict[str, Any] = {**_place_of(reaped).fields(), "meta": meta}
    seq = locked.last_seq + 1
    lost = Event(seq, ev.LEASE_LOST, status=reaped.status, **common)
    if reaped.status != DEAD or locked.is_terminal or reaped.origin == EXTERNAL:
        return [lost]
    message = f"the job's lease ran out {reaped.lost_leases} times: its workers died or hung"
    error = {"code": "lease_exhausted", "message": message}
    return [lost, Event(seq + 1, ev.ACTION_ERROR, status="error", error=error, **common)]
