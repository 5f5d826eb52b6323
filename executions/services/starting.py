"""Starting executions, and starting one again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.conf import settings
from django.db import transaction

from catalog.api import find_playbook_version, get_playbook_version, load_playbook
from executions import store
from executions.domain.sight import job_uuid
from executions.domain.start import build_workload, overlay_workload, reuse_of, start_event
from executions.errors import StartConflict
from executions.failpoints import failpoint
from executions.services.busyness import refuse_when_busy
from executions.services.evaluation import evaluate_here_or_later
from executions.store import NewExecution


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
    found = find_playbook_version(path, version)
    playbook = load_playbook(found.id)
    payload = {} if payload is None else payload
    digest = _digest([path, version, payload, merge, *([] if priority is None else [priority])])
    if idempotency_key is None or not store.is_start_known(idempotency_key):
        refuse_when_busy()
    with transaction.atomic():
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
    with transaction.atomic():
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
    """Insert and begin an execution in the caller's transaction. Gives its id, or the first start's of its key."""
    playbook = load_playbook(new.playbook_version_id)
    first = start_event(str(new.id), playbook, new.version, new.workload, reuse)
    if not store.insert_execution(new):
        assert new.idempotency_key is not None
        return _earlier_start(new.idempotency_key, new.request_hash)
    locked = store.lock_execution(new.id)
    store.append_events(new.id, [first])
    locked.last_seq = first.seq
    evaluate_here_or_later(locked)
    transaction.on_commit(lambda: failpoint("start.committed"), robust=True)
    return new.id


def _digest(request: list[Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()


def _earlier_start(idempotency_key: str, digest: str) -> int:
    execution_id, before = store.find_start(idempotency_key)
    if before != digest:
        raise StartConflict(idempotency_key)
    return execution_id
