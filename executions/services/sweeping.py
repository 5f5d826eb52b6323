"""The sweep's repair: an execution that has not ended and owns nothing is given back what it waits for.

It never comes to that by itself: rows were removed by hand, or a fault of ours lost a mark. What its log leads to is
planned; when that is nothing new, its work was asked for once and is gone, and is asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction

from catalog.api import load_playbook
from executions import store
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.facts import Facts
from executions.domain.owed import Owed, ask_again
from executions.errors import LogInconsistent
from executions.nudges import Nudge, send_after_commit
from executions.services.children import start_children
from executions.services.evaluation import evaluate_locked, new_job
from executions.services.turns import Turn
from executions.store import LockedExecution
from queueing.api import end_leases_without_jobs, enqueue_jobs, query_jobs

logger = logging.getLogger(__name__)

MAX_TOLD: Final = 100
"""How many nodes the event names of each kind."""


@dataclass(slots=True)
class Repair:
    """What was done: how many events were planned anew, and the nodes of what was asked for again."""

    planned: int = 0
    jobs: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    timers: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.planned or self.jobs or self.children or self.timers)

    def told(self) -> dict[str, Any]:
        """As the event's context tells it."""
        nodes = {"jobs": self.jobs, "children": self.children, "timers": self.timers}
        counts = {"planned": self.planned, **{name: len(found) for name, found in nodes.items()}}
        return {"repaired": counts, "nodes": {name: found[:MAX_TOLD] for name, found in nodes.items() if found}}


def repair_execution(execution_id: int) -> Repair | None:
    """Let an execution go on that owns nothing: its state is rebuilt from the log, which is planned anew.

    What was repaired is told by a `warning` in its log, with the code `work_missing`.
    Returns: None when it owns something, or somebody holds it. Raises: `LogInconsistent` when nothing was found to
    ask for, `ImpossibleEvent` when its log cannot be folded; nothing is changed then.
    """
    with transaction.atomic():
        locked = store.lock_execution_if_free(execution_id)
        # Looked at again under the lock: a report may have come meanwhile.
        if locked is None or not store.is_without_work(execution_id):
            return None
        return _repair(locked)


def _repair(locked: LockedExecution) -> Repair:
    locked.state_data = None
    decision = Turn(locked).decide()
    repair, answers = Repair(planned=len(decision.events) if decision is not None else 0), list[Event]()
    owed = _find_owed(locked)
    # Before anything is planned: that would set those of the whole execution as if it had just begun.
    _set_timers(locked, owed, repair)
    if not repair.planned:
        answers = _ask_again(locked, owed, repair)
    if not repair:
        raise LogInconsistent(locked.id, {"missing": "it owns nothing, and its log tells of nothing to ask for"})
    store.append_events(locked.id, [_told(locked, repair), *answers])
    locked.last_seq += 1 + len(answers)
    send_after_commit(evaluate_locked(locked).nudge)
    return repair


def _find_owed(locked: LockedExecution) -> Owed:
    playbook = load_playbook(locked.playbook_version_id)
    times = store.event_times(locked.id)

    def ask(event: Event, question: Callable[[Facts], Any]) -> Any:
        # Facts of another moment must not be seen: each question begins without any.
        turn = Turn(locked)
        turn.facts.recorded_at = times[event.seq]
        return turn.ask(lambda _: question(turn.facts))

    return ask_again(playbook, str(locked.id), store.events_since(locked.id, 0, whole=False), times, ask)


def _set_timers(locked: LockedExecution, owed: Owed, repair: Repair) -> None:
    # Those by which nothing goes on, of lateness and of the whole execution, may be there still.
    there = store.timers_of(locked.id)
    store.set_timers(locked.id, owed.timers)
    lost = [timer for timer in owed.timers if (timer.node_id, timer.kind) not in there]
    repair.timers += [timer.node_id for timer in lost if timer.kind != "late"]


def _ask_again(locked: LockedExecution, owed: Owed, repair: Repair) -> list[Event]:
    """Enqueue and start what is owed. Returns: the events, after that of the repair, that tell of children."""
    playbook = load_playbook(locked.playbook_version_id)
    new = enqueue_jobs([new_job(locked, playbook, job) for job in owed.jobs])
    repair.jobs += query_jobs(id__in=[id_ for id_, _ in new]).values_list("node_id", flat=True)
    # Their workers are told `lease_lost`, as of any lease that is gone.
    end_leases_without_jobs(locked.id)
    children, answers = start_children(locked, owed.children, locked.last_seq + 2)
    repair.children += [event.node_id for event in answers]
    send_after_commit(Nudge(new_jobs=dict.fromkeys({pool for _, pool in new}, 1), evaluate=tuple(children)))
    return answers


def _told(locked: LockedExecution, repair: Repair) -> Event:
    name = load_playbook(locked.playbook_version_id).name
    message = "it had not ended and owned no job, no lease, no timer, no child and no wait"
    logger.warning("execution %s was repaired, as %s: %s", locked.id, message, repair.told())
    return Event(
        locked.last_seq + 1,
        ev.WARNING,
        str(locked.id),
        name,
        ev.NODE_EXECUTION,
        status="warning",
        context=repair.told(),
        error={"code": "work_missing", "message": message},
    )
