"""The server's side of the worker protocol: what a word from a worker elsewhere means.

Knows leases, outcomes and templates of leased jobs; nothing of HTTP. Source: rule R16, docs/api.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from django.db import transaction

from executions.api import ACTION_COMPLETED, Event, LogLine, Report, append_log, report_results
from executors.auth import names_in
from executors.contract import Credential
from executors.errors import CredentialNotFound, CredentialOutOfScope
from executors.registry import argument_schemas
from executors.sandbox.sanitise import OutputInvalid, clean_text, sanitise
from executors.services import resolve_credential
from executors.worker.wire import ActionUnreadable, read_action, without_secrets
from queueing.api import (
    Fence,
    Judgement,
    LeaseLost,
    get_live_action,
    list_held_jobs,
    query_jobs,
    retry_external_job,
)

ENVELOPE: Final = frozenset({"id", "status", "data", "error", "traceback", "meta"})
"""The keys of what an executor of the original returns; `id` and `status` are always there."""
MAX_CODE: Final = 100
SECRETS: Final = "secrets"
MAX_SECONDS: Final = 1e9


def complete_job(fence: Fence, result: Any, duration_seconds: float, *, log: Sequence[LogLine] = ()) -> Judgement:
    """Accept the result of a leased job, unless its outcome was accepted before. Raises: `LeaseLost`."""
    return _report(replace(_success(fence, result, duration_seconds, None), log=log))


def fail_job(
    fence: Fence,
    error: Any,
    *,
    data: Any = None,
    traceback: str | None = None,
    duration_seconds: float = 0.0,
    retry_delay_seconds: float | None = None,
    log: Sequence[LogLine] = (),
) -> Judgement | str:
    """Accept the failure of a leased job, or give a job that was enqueued by hand back for another try.

    `retry_delay_seconds`: how long it then waits; None: no other try. Returns: the judgement, or `queued`.
    Raises: `LeaseLost`.
    """
    if retry_delay_seconds is not None and _retry(fence, retry_delay_seconds, log):
        return "queued"
    return _report(replace(_failure(fence, error, data, traceback, duration_seconds, None), log=log))


def _retry(fence: Fence, delay_seconds: float, log: Sequence[LogLine]) -> bool:
    """Give a job that was enqueued by hand back, and keep its log; when it has no other try, neither."""
    with transaction.atomic():
        if log:
            with suppress(LeaseLost):
                append_log(fence, log)
        is_queued = retry_external_job(fence, delay_seconds)
        if not is_queued:
            transaction.set_rollback(True)
    return is_queued


def accept_posted_outcome(fence: Fence, posted: Event) -> Judgement:
    """Accept a posted `action_completed` or `action_error` as the outcome of a leased job. Raises: `LeaseLost`."""
    data, error, traceback = posted.result, posted.error, posted.traceback
    if isinstance(data, Mapping) and {"id", "status"} <= data.keys() <= ENVELOPE:
        error, traceback = error or data.get("error"), traceback or data.get("traceback")
        data = data.get("data")
    if posted.type == ACTION_COMPLETED:
        return _report(_success(fence, data, posted.duration_seconds, posted.posted_id))
    return _report(_failure(fence, error, data, traceback, posted.duration_seconds, posted.posted_id))


def _report(report: Report) -> Judgement:
    execution_id = query_jobs(id=report.fence.job_id).values_list("execution_id", flat=True).get()
    [judgement] = report_results(execution_id, [report])
    if judgement == "lease_lost":
        raise LeaseLost(report.fence.job_id)
    return judgement


def _success(fence: Fence, result: Any, duration_seconds: float, posted_id: str | None) -> Report:
    try:
        data = sanitise(result)
    except OutputInvalid as error:
        # The action did its work, and what it gave cannot be kept: a failed step, never a refused report (rule R12).
        cause = {"code": error.code, "message": str(error)}
        return Report(fence, "error", error=cause, duration_seconds=duration_seconds, posted_id=posted_id)
    return Report(fence, "success", data, duration_seconds=duration_seconds, posted_id=posted_id)


def _failure(
    fence: Fence, error: Any, data: Any, traceback: Any, duration_seconds: float, posted_id: str | None
) -> Report:
    try:
        kept = sanitise(data)
    except OutputInvalid:
        kept = None
    text = None if traceback is None else clean_text(str(traceback))
    return Report(fence, "error", kept, _cause(error), text, duration_seconds, posted_id)


def _cause(error: Any) -> dict[str, Any]:
    """A failure's `{code, message}`, and `retry_after_seconds` if any, from whatever a worker told of it."""
    if not error:
        return {"code": "action_failed", "message": "the worker reported a failure without its cause"}
    if isinstance(error, Mapping) and "message" in error:
        code = clean_text(str(error.get("code") or "action_failed"))[:MAX_CODE]
        cause = {"code": code, "message": clean_text(str(error["message"]))}
        wanted = error.get("retry_after_seconds")
        # What is no number of seconds is dropped; how long it may be is the retry's business.
        is_time = isinstance(wanted, int | float) and not isinstance(wanted, bool) and 0 <= wanted <= MAX_SECONDS
        return {**cause, "retry_after_seconds": wanted} if is_time else cause
    return {"code": "action_failed", "message": clean_text(str(error))}


def find_held_template(execution_id: int, template: Any, principal: str) -> dict[str, Any] | None:
    """The parts `work` and `task` of a template, when they are the stored context and action of a job held now.

    They were rendered when the job was planned, and what is in them now is data: they are given back as they are.
    """
    if not isinstance(template, Mapping) or not {"work", "task"} & template.keys():
        return None
    try:
        task = read_action(template["task"]) if template.get("task") else None
    except ActionUnreadable:
        return None
    for job in list_held_jobs(execution_id, principal):
        if task in (None, without_secrets(job.action)) and template.get("work") in (None, {}, job.context):
            return {**template, **({"task": parsed(template["task"])} if task else {})}
    return None


def parsed(task: Any) -> Any:
    """A task given as JSON text of a map, as that map; anything else as it is."""
    try:
        value = json.loads(task) if isinstance(task, str) else task
    except (ValueError, RecursionError):
        return task
    return value if isinstance(value, dict) else task


def secrets_of(fence: Fence) -> list[Credential]:
    """The credentials that a job's action names, for whoever holds its lease now.

    Raises: `LeaseLost`; for what `auth` names `CredentialNotFound`, `CredentialOutOfScope`, `CredentialUnreadable`.
    """
    action = get_live_action(fence)
    execution_id = query_jobs(id=fence.job_id).values_list("execution_id", flat=True).get()
    demanded, wanted = _named_by(action)
    found = {name: resolve_credential(name, execution_id) for name in sorted(demanded)}
    for name in sorted(wanted - demanded):
        # One that is not stored here, or not for this playbook, may be in the worker's own environment.
        with suppress(CredentialNotFound, CredentialOutOfScope):
            found[name] = resolve_credential(name, execution_id)
    return list(found.values())


def _named_by(action: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The stored credentials that an action demands, and those that may be its secrets; also of secrets of steps."""
    arguments = action.get("arguments", {})
    demanded, wanted = set[str](), set[str]()
    if action["kind"] in argument_schemas():
        credentials, secrets = names_in(arguments.get("auth"))
        demanded.update(credentials)
        wanted.update(secrets)
        if action["kind"] == SECRETS and arguments.get("provider") == "credential":
            demanded.add(str(arguments.get("secret_name", "")))
    wanted.update(name for names in (action.get("secrets") or {}).values() for name in names)
    for source in (action.get("secret_sources") or {}).values():
        inner = _named_by({"kind": SECRETS, **source})
        demanded.update(inner[0])
        wanted.update(inner[1])
    return demanded, wanted
