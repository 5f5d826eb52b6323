"""What stands on a row's page besides its own fields: what belongs to it in other tables, a bounded number of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Model
from django.utils import timezone
from django.utils.timezone import localtime

from executions.api import (
    ExecutionView,
    count_dropped_lines,
    count_executions_of_version,
    find_item_error,
    get_execution,
    list_executions,
    list_latest_events,
    list_latest_lines,
    list_logging_steps,
    list_steps,
)
from noetl_site.console import values
from noetl_site.console.values import Viewer
from queueing.api import count_jobs_of_execution, list_jobs, list_leases

LIMIT: Final = 20
"""Rows of a panel; its link leads to all of them."""
LOG_LIMIT: Final = 200
"""Lines of a log on a page; the API and `executions logs` have all of them."""

VERSION: Final = "catalog.playbookversion"
EXECUTION: Final = "executions.execution"
EVENT: Final = "executions.eventlog"
JOB: Final = "queueing.job"
LEASE: Final = "queueing.leasehistory"
LOG: Final = "executions.actionlog"


@dataclass(frozen=True, slots=True)
class Panel:
    """A titled table. `counts` are links above it: (status word, count, address)."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    empty: str
    counts: Sequence[tuple[str, int, str]] = ()
    more: tuple[str, str] | None = None
    """Text and address of the whole list."""


@dataclass(frozen=True, slots=True)
class Log:
    """The newest lines of an execution's log, in their order: (time, node, level, text).

    `choices` are links that narrow it to a step: (text, address, whether it is chosen). `note` says what is not shown.
    """

    shown: Sequence[tuple[str, str, str, str]]
    choices: Sequence[tuple[str, str, bool]]
    empty: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The row in a few lines: (label, what is shown)."""

    lines: Sequence[tuple[str, Any]]


def panels_of(
    user: Viewer, row: Model, asked: Mapping[str, str] = MappingProxyType({})
) -> Sequence[Panel | Summary | Log]:
    """The panels of a row's page, those that the user may see; `asked` is the address's query."""
    make = _PANELS.get(row._meta.label_lower)
    return make(user, row, asked) if make else []


# -- playbook version -------------------------------------------------------------------------------


def _of_version(user: Viewer, row: Any, asked: Mapping[str, str]) -> list[Panel]:
    if not values.may_view(user, EXECUTION):
        return []
    counts = count_executions_of_version(row.path, row.version)
    newest = list_executions(path=row.path, version=row.version, limit=LIMIT)
    # By path, which has an index.
    same: dict[str, Any] = {"path": row.path, "version": row.version}
    return [
        Panel(
            "Executions",
            EXECUTION_HEADERS,
            [execution_row(user, execution) for execution in newest],
            empty=f"This version has not run yet. Start it with: manage.py run {row.path}:{row.version}",
            counts=_links(EXECUTION, counts, **same),
            more=("All executions of this version", values.list_of(EXECUTION, **same)),
        )
    ]


EXECUTION_HEADERS: Final = ("Execution", "Status", "Duration", "Created")


def execution_row(user: Viewer, execution: ExecutionView) -> list[Any]:
    """An execution as a line of a table."""
    return [
        values.show_link(user, EXECUTION, execution.id, execution.id),
        values.show_pill(execution.status),
        _lasted(execution),
        values.show_time(execution.created_at),
    ]


def _lasted(execution: ExecutionView) -> str:
    """How long it took; for one that has not ended, so far."""
    if execution.duration_seconds is not None:
        return values.describe_duration(execution.duration_seconds)
    so_far = (timezone.now() - execution.created_at).total_seconds()
    return f"{values.describe_duration(max(so_far, 0))} so far"


def _links(label: str, counts: Mapping[str, int], **lookups: Any) -> list[tuple[str, int, str]]:
    return [
        (values.show_pill(word), count, values.list_of(label, **lookups, status__exact=word))
        for word, count in sorted(counts.items())
    ]


# -- execution --------------------------------------------------------------------------------------


def _of_execution(user: Viewer, row: Any, asked: Mapping[str, str]) -> list[Panel | Summary | Log]:
    execution = get_execution(row.pk)
    playbook = values.show_link(user, VERSION, row.playbook_version_id, f"{row.path} {row.version}")
    lines: list[tuple[str, Any]] = [
        ("Status", values.show_pill(execution.status)),
        ("Playbook", playbook),
        ("Duration", _lasted(execution)),
    ]
    if execution.error:
        lines.append(("Why", _why(execution)))
    if execution.result is not None:
        lines.append(("Result", values.show_json(execution.result)))
    panels: list[Panel | Summary | Log] = [Summary(lines), _steps(execution.id)]
    if values.may_view(user, LOG):
        panels.append(_log(row.pk, asked.get("step")))
    if values.may_view(user, JOB):
        panels.append(_jobs(user, row.pk))
    if values.may_view(user, EVENT):
        panels.append(_events(user, row.pk))
    return panels


def _why(execution: ExecutionView) -> str:
    """The root cause in words; for a loop, also that of the item it names."""
    error = execution.error
    why = values.describe_error(error)
    if error.get("index") is not None and error.get("node_id"):
        cause = find_item_error(execution.id, error["node_id"], error["index"])
        why += f". Item {error['index']}: {values.describe_error(cause)}" if cause else ""
    return why


def _steps(execution_id: str) -> Panel:
    rows = []
    for step in list_steps(execution_id):
        done, failed, total = step.items or (0, 0, 0)
        items = f"{done} done, {failed} failed, {total} in all" if step.items else values.NOTHING
        lasted = "" if step.status == "skipped" else values.describe_duration(step.duration_seconds)
        error = values.describe_error(step.error) or values.NOTHING
        rows.append([step.name, values.show_pill(step.status), lasted or values.NOTHING, items, error])
    headers = ("Step", "Status", "Duration", "Items", "Error")
    return Panel("Steps", headers, rows, empty="No step has started yet.")


def _log(execution_id: int, step: str | None) -> Log:
    steps = list_logging_steps(execution_id)
    step = step if step in steps else None
    lines = list_latest_lines(execution_id, LOG_LIMIT + 1, step)
    note = []
    if len(lines) > LOG_LIMIT:
        note.append(f"The newest {LOG_LIMIT} lines; all of them: manage.py executions logs {execution_id}")
    if dropped := count_dropped_lines(execution_id):
        note.append(f"{dropped:,} lines were dropped, as the log was full.")
    page = values.page_of(EXECUTION, execution_id)
    choices = [("all steps", f"{page}#log", step is None)]
    choices += [(name, f"{page}?{urlencode({'step': name})}#log", name == step) for name in steps]
    shown = [
        (f"{localtime(line.at):%H:%M:%S.%f}"[:-3], values.show_node(line.node_id), line.level, line.text)
        for line in lines[-LOG_LIMIT:]
    ]
    return Log(shown, choices if steps else [], "No action has printed or logged anything.", " ".join(note))


def _jobs(user: Viewer, execution_id: int) -> Panel:
    rows = [
        [
            values.show_link(user, JOB, job.id, values.show_node(job.node_id)),
            job.kind,
            values.show_pill(job.status),
            job.attempts,
            job.worker_id or values.NOTHING,
            values.show_time(job.created_at),
        ]
        for job in list_jobs(execution_id, LIMIT)
    ]
    return Panel(
        "Jobs",
        ("Node", "Kind", "Status", "Attempts", "Held by", "Created"),
        rows,
        empty="No job has been queued yet.",
        counts=_links(JOB, count_jobs_of_execution(execution_id), execution_id=execution_id),
        more=("All jobs of this execution", values.list_of(JOB, execution_id=execution_id)),
    )


def _events(user: Viewer, execution_id: int) -> Panel:
    rows = [
        [
            values.show_link(user, EVENT, event.event_id, event.seq),
            event.event_type,
            values.show_node(event.node_id),
            values.show_pill(event.status),
            values.show_time(event.timestamp),
        ]
        for event in list_latest_events(execution_id, LIMIT)
    ]
    return Panel(
        "Latest events",
        ("Seq", "Event", "Node", "Status", "Time"),
        rows,
        empty="Nothing has happened yet.",
        more=("All events of this execution", values.list_of(EVENT, execution_id=execution_id)),
    )


# -- job --------------------------------------------------------------------------------------------


def _of_job(user: Viewer, row: Any, asked: Mapping[str, str]) -> list[Panel]:
    if not values.may_view(user, LEASE):
        return []
    rows = [
        [
            values.show_link(user, LEASE, lease.id, lease.attempt),
            lease.worker_id,
            values.show_pill(lease.ending or "held"),
            values.show_time(lease.leased_at),
            values.describe_duration((lease.ended_at - lease.leased_at).total_seconds() if lease.ended_at else None),
        ]
        for lease in list_leases(row.pk, LIMIT)
    ]
    headers = ("Attempt", "Worker", "Ending", "Leased", "Duration")
    more = ("All leases of this job", values.list_of(LEASE, job_id=row.pk))
    return [Panel("Leases", headers, rows, empty="No worker has taken this job yet.", more=more)]


_PANELS: Final[Mapping[str, Callable[[Viewer, Any, Mapping[str, str]], Sequence[Panel | Summary | Log]]]] = {
    VERSION: _of_version,
    EXECUTION: _of_execution,
    JOB: _of_job,
}
