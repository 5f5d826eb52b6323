"""Reads of executions and their events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db.models import BigIntegerField, Count, Func, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from catalog.api import Playbook, load_playbook
from executions import store
from executions.domain import events as ev
from executions.domain import state as states
from executions.domain.events import Event
from executions.domain.fold import replay
from executions.domain.frames import bitmap, encode_frame
from executions.domain.memory import MemoryLog
from executions.errors import EventNotFound, EventsTooNew, ExecutionNotFound, ImpossibleEvent
from executions.models import CLOCK, ActionLog, EventLog, Execution

MAX_POSTED_ID = 100
MAX_NAMESAKES = 100
LARGE_AT_ONCE = 100
STEP_EVENTS = {
    ev.STEP_STARTED: "running",
    ev.STEP_SKIP: "skipped",
    ev.STEP_COMPLETED: "success",
    ev.STEP_FAILED: "error",
}


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution as its users see it; times are aware UTC. `progress` is the percent of steps that have ended."""

    id: str
    path: str
    version: str
    playbook_name: str
    status: str
    progress: int
    parent_execution_id: str | None
    rerun_of: str | None
    workload: Any
    result: Any
    error: Any
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    parent_node_id: str | None = None
    children_count: int = 0
    priority: int = 0

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self.status in ("completed", "failed", "cancelled")

    @property
    def duration_seconds(self) -> float | None:
        """From the start to the end, or None while it runs."""
        return (self.ended_at - self.created_at).total_seconds() if self.ended_at else None


@dataclass(slots=True)
class StepView:
    """The newest visit of one step. `items` counts a loop's items: (done, failed, total)."""

    name: str
    node_id: str
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    error: Any = None
    items: tuple[int, int, int] | None = None

    @property
    def duration_seconds(self) -> float | None:
        """From the start to the end, or None while it runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None


def get_execution(reference: int | str) -> ExecutionView:
    """One execution by id, or the newest one by `@latest`. Raises: `ExecutionNotFound`."""
    newest = Execution.objects.order_by("-id").values_list("id", flat=True)
    id_ = newest.first() if reference == "@latest" else _as_id(reference)
    row = None if id_ is None else store.read_view(id_)
    if row is None:
        raise ExecutionNotFound(reference)
    children_count = row.pop("children_count")
    return view_of(Execution(**row), children_count)


def get_playbook_path(execution_id: int) -> str | None:
    """The path of the playbook that an execution runs; None when there is no such execution."""
    return Execution.objects.filter(id=execution_id).values_list("path", flat=True).first()


def _as_id(reference: int | str) -> int:
    text = str(reference)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
        raise ExecutionNotFound(reference)
    return int(text)


def list_executions(
    status: str | None = None, path: str | None = None, limit: int = 20, version: str | None = None
) -> list[ExecutionView]:
    """The newest executions first, of one status, one path and one version when given."""
    return [view_of(row) for row in query_executions(status, path, version)[:limit]]


def query_executions(
    status: str | None = None,
    path: str | None = None,
    version: str | None = None,
    parent_execution_id: int | None = None,
) -> QuerySet[Execution]:
    """The rows of `list_executions`, or of an execution's children; for pages of lists."""
    wanted = {"status": status, "path": path, "version": version, "parent_execution_id": parent_execution_id}
    found = Execution.objects.filter(**{name: value for name, value in wanted.items() if value})
    return found.annotate(children_count=_CHILDREN).order_by("-id")


_CHILDREN = Coalesce(
    Subquery(
        Execution.objects.filter(parent_execution_id=OuterRef("id"))
        .order_by()
        .values("parent_execution_id")
        .annotate(count=Count("id"))
        .values("count")
    ),
    0,
)


def count_executions_of_version(path: str, version: str) -> dict[str, int]:
    """How many executions of a playbook version have each status."""
    return _count_by_status(Execution.objects.filter(path=path, version=version))


def count_recent_executions(since_seconds: float) -> dict[str, int]:
    """How many of the executions started in the last so many seconds have each status."""
    return _count_by_status(Execution.objects.filter(id__gte=_first_id(since_seconds)))


def _count_by_status(rows: QuerySet[Execution]) -> dict[str, int]:
    return dict(rows.order_by().values_list("status").annotate(count=Count("id")))


def _first_id(since_seconds: float) -> Func:
    """The first id of a moment so long ago: ids are in the order of time, so their index finds what is recent."""
    return Func(CLOCK - timedelta(seconds=since_seconds), function="id_at", output_field=BigIntegerField())


def view_of(row: Execution, children_count: int | None = None) -> ExecutionView:
    """The row of `query_executions` as its users see it; a large result stays a reference."""
    playbook = load_playbook(row.playbook_version_id)
    return ExecutionView(
        id=str(row.id),
        path=row.path,
        version=row.version,
        playbook_name=playbook.name,
        status=row.status,
        progress=_progress(row, playbook),
        parent_execution_id=None if row.parent_execution_id is None else str(row.parent_execution_id),
        rerun_of=None if row.rerun_of is None else str(row.rerun_of),
        workload=row.workload,
        result=row.result,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        parent_node_id=row.parent_node_id,
        children_count=getattr(row, "children_count", 0) if children_count is None else children_count,
        priority=row.priority,
    )


def _progress(row: Execution, playbook: Playbook) -> int:
    if row.status == Execution.Status.COMPLETED:
        return 100
    if row.state is None or row.state.get("format") != states.FORMAT:
        return 0
    state = states.decode(row.state)
    root, others = state.root, ~playbook.notices
    steps = len(playbook.steps) - playbook.notices.bit_count()
    return min(99, 100 * ((root.visited & others).bit_count() - (bitmap(root.live) & others).bit_count()) // steps)


def list_events(execution_id: int | str, after_seq: int = 0) -> Iterator[EventLog]:
    """The events of an execution in order, after a seq."""
    return query_events(execution_id, after_seq).iterator(chunk_size=1000)


def query_events(execution_id: int | str, after_seq: int = 0) -> QuerySet[EventLog]:
    """The events of an execution as rows, in order, after a seq."""
    return EventLog.objects.filter(execution_id=_as_id(execution_id), seq__gt=after_seq).order_by("seq")


def with_large_results(events: Iterable[EventLog]) -> Iterator[EventLog]:
    """Events of one execution with their large results in the place of the references, some at a time."""
    given = iter(events)
    while chunk := list(islice(given, LARGE_AT_ONCE)):
        if keys := {event.result_ref for event in chunk if event.result_ref is not None}:
            found = store.large_results(chunk[0].execution_id, keys)
            for event in chunk:
                if event.result_ref in found:
                    event.result = found[event.result_ref]
        yield from chunk


def find_events(some_id: str) -> list[EventLog]:
    """The event with this id, or else those that were posted under it, one per execution at the most."""
    with suppress(ExecutionNotFound):
        if own := list(with_large_results(EventLog.objects.filter(event_id=_as_id(some_id)))):
            return own
    if not some_id.isprintable() or len(some_id) > MAX_POSTED_ID:
        return []
    posted = EventLog.objects.filter(posted_id=some_id).order_by("event_id")[:MAX_NAMESAKES]
    # Each is of another execution.
    return [event for one in posted for event in with_large_results([one])]


def get_event(execution_id: int, seq: int) -> EventLog:
    """An event by its place in its log. Raises: `EventNotFound`."""
    found = EventLog.objects.filter(execution_id=execution_id, seq=seq).first()
    if found is None:
        raise EventNotFound(f"{seq} of execution {execution_id}")
    return next(with_large_results([found]))


def get_outcome(execution_id: int, node_id: str, attempt: int) -> EventLog:
    """The event that tells what came of one attempt at a node's job, a repeated one too. Raises: `EventNotFound`."""
    told = [*ev.OUTCOMES, ev.ACTION_RETRY, ev.LATE_RESULT, ev.ANNOTATION]
    rows = EventLog.objects.filter(execution_id=execution_id, node_id=node_id, event_type__in=told)
    found = rows.filter(meta__has_key="job_id", meta__attempt=attempt).order_by("-seq").first()
    if found is None:
        raise EventNotFound(f"at {node_id}")
    return next(with_large_results([found]))


def read_log(execution_id: int | str) -> MemoryLog:
    """The whole log of an execution as values, with the times. Raises: `ExecutionNotFound`, `EventsTooNew`."""
    rows = with_large_results(list_events(get_execution(execution_id).id))
    return MemoryLog((_event_of(row), row.timestamp.isoformat()) for row in rows)


def _event_of(row: EventLog) -> Event:
    ev.refuse_newer(row.execution_id, [row.format])
    return Event(
        row.seq,
        row.event_type,
        row.node_id,
        row.node_name,
        row.node_type,
        status=row.status,
        context=row.context,
        result=row.result,
        error=row.error,
        meta=row.meta,
        loop_name=row.loop_name,
        index=row.current_index,
        item=row.current_item,
        duration_seconds=row.duration,
        traceback=row.stack_trace,
        worker_id=row.worker_id,
        posted_id=row.posted_id,
    )


def list_latest_events(execution_id: int | str, limit: int) -> list[EventLog]:
    """The newest events of an execution, the newest first, without what they carry."""
    rows = EventLog.objects.filter(execution_id=_as_id(execution_id)).order_by("-seq")
    return list(rows.defer("context", "result", "meta", "stack_trace", "current_item")[:limit])


def query_log(execution_id: int | str, after_seq: int = 0, step: str | None = None) -> QuerySet[ActionLog]:
    """What the actions of an execution printed and logged, in order: after a seq, of one step when it is named."""
    rows = ActionLog.objects.filter(execution_id=_as_id(execution_id), seq__gt=after_seq).order_by("seq")
    return rows if step is None else rows.filter(step=step)


def list_latest_lines(execution_id: int | str, limit: int, step: str | None = None) -> list[ActionLog]:
    """The newest lines of an execution's log, in their order."""
    newest = query_log(execution_id, step=step).order_by("-seq")[:limit]
    return list(reversed(newest))


def list_logging_steps(execution_id: int | str) -> list[str]:
    """The steps that have lines in the execution's log."""
    return store.logging_steps(_as_id(execution_id))


def count_dropped_lines(execution_id: int | str) -> int:
    """How many lines of an execution were dropped because its log was full."""
    return store.count_dropped_lines(_as_id(execution_id))


def find_item_error(execution_id: int | str, node_id: str, index: int) -> Any:
    """The error of one item of a loop, by the loop's node; None when the item has none."""
    loop, visit_mark, visit = node_id.partition("#")
    outcome = EventLog.objects.filter(
        execution_id=_as_id(execution_id), node_id=f"{loop}:{index}{visit_mark}{visit}", event_type__in=ev.OUTCOMES
    )
    return outcome.values_list("error", flat=True).first()


def list_steps(execution_id: int | str) -> list[StepView]:
    """The steps that have started or were skipped, in the order of their start; the newest visit of each."""
    steps: dict[str, StepView] = {}
    rows = EventLog.objects.filter(
        execution_id=_as_id(execution_id), event_type__in=[*STEP_EVENTS, ev.LOOP_START]
    ).order_by("seq")
    for row in rows.only("event_type", "node_name", "timestamp", "error", "context", "node_id"):
        _tell_step(steps, row)
    over = Execution.objects.filter(id=_as_id(execution_id), ended_at__isnull=False).exists()
    for step in steps.values():
        if over and step.status == "running":
            # Its execution ended first: it was called off.
            step.status = "cancelled"
        if step.items is not None:
            done, failed = store.count_items(_as_id(execution_id), step.node_id)
            step.items = (done, failed, step.items[2])
    return list(steps.values())


def _tell_step(steps: dict[str, StepView], row: EventLog) -> None:
    if row.event_type == ev.LOOP_START:
        steps[row.node_name].items = (0, 0, (row.context or {})["count"])
        return
    status = STEP_EVENTS[row.event_type]
    if row.event_type in (ev.STEP_STARTED, ev.STEP_SKIP):
        steps[row.node_name] = StepView(row.node_name, row.node_id, status, row.timestamp)
    if status != "running":
        step = steps[row.node_name]
        step.status, step.ended_at, step.error = status, row.timestamp, row.error


def find_executions_to_evaluate(older_than_seconds: float, count: int) -> list[int]:
    """Executions whose evaluation was put off at least so long ago."""
    return store.find_to_evaluate(older_than_seconds, count)


def find_executions_with_due_timers(count: int) -> list[int]:
    """Executions with a timer whose time has come, the longest overdue first."""
    return store.find_due_executions(count)


def find_executions_without_work(older_than_seconds: float, count: int | None = None, after: int = 0) -> list[int]:
    """Executions that have not ended, have not moved for so long, and own no job, lease, timer, child or wait.

    In the order of their ids: those after an id, and no more than `count`.
    """
    return store.find_without_work(older_than_seconds, count, after)


def find_parents_to_tell(older_than_seconds: float, count: int) -> list[int]:
    """Executions with children that ended at least so long ago, and that they were not told of."""
    return store.find_parents_to_tell(older_than_seconds, count)


def find_fold_difference(execution_id: int) -> str:
    """What the stored state and the fold of the log disagree on; empty when they agree.

    The stored state is compared as of its own seq: events after it are evaluations still to come. The frames of
    running items are compared with it. What a newer release has written is not judged; nor is what is there no more.
    """
    row = Execution.objects.only("state", "playbook_version_id").filter(id=execution_id).first()
    if row is None or row.state is None or row.state.get("format") != states.FORMAT:
        return ""
    playbook = load_playbook(row.playbook_version_id)
    stored = states.decode(row.state)
    try:
        log = [event for event in store.events_since(execution_id, 0, whole=False) if event.seq <= stored.seq]
        folded = replay(log, playbook)
    except EventsTooNew:
        return ""
    except ImpossibleEvent as error:
        return str(error)
    before, after = states.encode(stored), states.encode(folded)
    parts = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    frames = {key: encode_frame(frame) for key, frame in folded.frames.items() if key != states.ROOT}
    if frames != store.load_all_frames(execution_id):
        parts.append("frames")
    if not parts:
        return ""
    return f"the state stored at seq {stored.seq} differs from the fold of the log in {', '.join(parts)}"
