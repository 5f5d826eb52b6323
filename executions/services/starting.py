"""Starting executions, and starting one again."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any, Final

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from catalog.api import get_playbook_version, load_playbook, pin_playbook_version
from executions import store
from executions.domain.events import Event
from executions.domain.sight import job_uuid
from executions.domain.start import build_workload, overlay_workload, reuse_of, start_event
from executions.errors import StartConflict, WorkloadInvalid
from executions.failpoints import failpoint
from executions.nudges import Nudge, send_after_commit
from executions.services.busyness import refuse_when_busy
from executions.services.evaluation import evaluate_locked
from executions.store import LockedExecution, NewExecution

logger = logging.getLogger(__name__)

_CARRIED: Final = {"override", "reuse"}


def start_execution(
    path: str,
    version: str | None = None,
    payload: Any = None,
    *,
    merge: bool = False,
    idempotency_key: str | None = None,
    started_by: str = "",
    priority: int | None = None,
) -> int:
    """Start an execution of a playbook and give its id; with a known `idempotency_key`, the id of the first start.

    `priority` counts before the playbook's, from -100 to 100.
    Raises: `PlaybookNotFound`, `WorkloadInvalid`, `StartConflict`, `TooBusy`; nothing is started then.
    """
    found = pin_playbook_version(path, version)
    playbook = load_playbook(found.id)
    payload = {} if payload is None else payload
    digest = _digest([path, version, payload, merge, *([] if priority is None else [priority])])
    if idempotency_key is None or not store.is_start_known(idempotency_key):
        refuse_when_busy()
    execution_id = store.new_id()
    identity = job_uuid(str(execution_id))
    workload = build_workload(playbook, payload, settings.NOETL_TEMPLATE_ENV_VALUES, identity, merge=merge)
    new = NewExecution(
        execution_id,
        found.id,
        found.path,
        found.version,
        workload,
        idempotency_key,
        digest,
        started_by,
        {},
        priority=playbook.priority or 0 if priority is None else priority,
    )
    return _start(new, None)


def rerun_execution(
    execution_id: int,
    *,
    from_step: str | None = None,
    failed_only: bool = False,
    payload: Any = None,
    merge: bool = False,
    idempotency_key: str | None = None,
    started_by: str = "",
) -> int:
    """Start an execution of the same playbook version again, with `payload` laid over its workload. Gives the new id.

    `failed_only`: what succeeded and would be asked for in the very same way is taken over, and the rest runs;
    `from_step`: the same, but this step and all after it run in any case.
    Raises: `ExecutionNotFound`, `WorkloadInvalid`, `StartConflict`; nothing is started then.
    """
    before = store.read_execution(execution_id)
    playbook = load_playbook(before.playbook_version_id)
    found = get_playbook_version(before.playbook_version_id)
    payload = {} if payload is None else payload
    workload = overlay_workload(before.workload, payload, merge=merge)
    reuse = reuse_of(playbook, str(execution_id), from_step) if failed_only or from_step is not None else None
    digest = _digest(["rerun", str(execution_id), from_step, failed_only, payload, merge])
    new = NewExecution(
        store.new_id(),
        before.playbook_version_id,
        found.path,
        found.version,
        workload,
        idempotency_key,
        digest,
        started_by,
        {},
        rerun_of=execution_id,
        priority=before.priority,
    )
    return _start(new, reuse)


def _start(new: NewExecution, reuse: dict[str, Any] | None) -> int:
    """Insert an execution and plan its beginning, in one transaction. Gives its id, or the first start's of its key.

    An execution whose beginning cannot be planned is started nevertheless, in a second transaction: its evaluation is
    put off as any that fails. That takes no savepoint, which every start would pay for.
    """
    try:
        return _insert_and_plan(new, reuse)
    except (OperationalError, InterfaceError, StartConflict, WorkloadInvalid):
        raise
    except Exception as failure:
        # Of any kind: a defect of the planner, and the start is kept in spite of it.
        logger.exception("the first evaluation of execution %s failed, and is put off", new.id)
        return _insert_and_plan(new, reuse, failed=f"{type(failure).__name__}: {failure}"[:1000])


@transaction.atomic
def _insert_and_plan(new: NewExecution, reuse: dict[str, Any] | None, *, failed: str = "") -> int:
    """`failed` tells why the first evaluation has just failed."""
    first = start_event(str(new.id), load_playbook(new.playbook_version_id), new.version, new.workload, reuse)
    locked = store.insert_execution(new)
    if locked is None:
        assert new.idempotency_key is not None
        return _earlier_start(new.idempotency_key, new.request_hash)
    _take_in(locked, first)
    if settings.NOETL_EVALUATE_INLINE and not failed:
        send_after_commit(evaluate_locked(locked).nudge)
    else:
        store.append_events(locked.id, locked.take_unwritten())
        store.mark_for_evaluation(locked.id, locked.last_seq, error=failed)
        if not failed:
            send_after_commit(Nudge(evaluate=(locked.id,)))
    transaction.on_commit(lambda: failpoint("start.committed"), robust=True)
    return locked.id


def _take_in(locked: LockedExecution, first: Event) -> None:
    """Have the first event planned with as it is, and written together with what follows from it.

    What it carries beside the workload is read back from the log: the plan takes it from there when it is made again,
    and JSON comes back from Postgres with its keys in another order.
    """
    locked.take_in([first])
    if _CARRIED & first.context.keys():
        store.append_events(locked.id, locked.take_unwritten())
        locked.news.clear()


def _digest(request: list[Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()


def _earlier_start(idempotency_key: str, digest: str) -> int:
    execution_id, before = store.find_start(idempotency_key)
    if before != digest:
        raise StartConflict(idempotency_key)
    return execution_id
