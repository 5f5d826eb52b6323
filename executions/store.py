"""The rows of executions and their log as values: the only place of this app that runs SQL.

Statements live in `sql/executions.sql`; all run on the caller's connection, inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiosql
from django.db import connection

from executions.domain import events as ev
from executions.domain import state as states
from executions.domain.events import Event
from executions.domain.facts import Facts
from executions.domain.wanted import Wanted
from executions.domain.results import StepResult
from executions.domain.state import State
from executions.errors import ExecutionNotFound

_QUERIES: Final[Any] = aiosql.from_path(Path(__file__).parent / "sql" / "executions.sql", "psycopg")


def _rows(name: str, **parameters: Any) -> list[Any]:
    """Run a named statement and give its rows; errors are Django's, as from the ORM."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return list(getattr(_QUERIES, name)(connection.connection, **parameters))


def _execute(name: str, **parameters: Any) -> None:
    """Run a named statement that gives no rows."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        getattr(_QUERIES, name)(connection.connection, **parameters)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


@dataclass(frozen=True, slots=True)
class NewExecution:
    """A row of `execution` to insert."""

    id: int
    playbook_version_id: int
    path: str
    version: str
    workload: dict[str, Any]
    idempotency_key: str | None
    request_hash: str
    created_by: str
    meta: dict[str, Any]


@dataclass(slots=True)
class StoredExecution:
    """An execution's row as it was at `now`."""

    id: int
    playbook_version_id: int
    status: str
    workload: dict[str, Any]
    state_data: dict[str, Any] | None
    last_seq: int
    now: datetime

    def state(self) -> State:
        """A fresh copy of the stored state, or the empty one when it must be rebuilt from the log."""
        return State() if self.state_data is None else states.decode(self.state_data)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self.status in ("completed", "failed", "cancelled")


@dataclass(slots=True)
class LockedExecution(StoredExecution):
    """An execution whose row the caller's transaction has locked, read under that lock."""


def new_id() -> int:
    """A new id, later than all before it."""
    id_: int = _rows("new_id")[0][0]
    return id_


def insert_execution(new: NewExecution) -> bool:
    """Insert an execution. Returns: False when its idempotency key is taken, and nothing was inserted."""
    rows = _rows(
        "insert_execution",
        id=new.id,
        playbook_version_id=new.playbook_version_id,
        path=new.path,
        version=new.version,
        workload=_json(new.workload),
        idempotency_key=new.idempotency_key,
        request_hash=new.request_hash,
        created_by=new.created_by,
        meta=_json(new.meta),
        parent_execution_id=None,
        parent_node_id=None,
    )
    return bool(rows)


def find_start(idempotency_key: str) -> tuple[int, str]:
    """The execution that was started with this key: (id, hash of its request)."""
    row = _rows("find_start", idempotency_key=idempotency_key)[0]
    return row[0], row[1]


def lock_execution(execution_id: int) -> LockedExecution:
    """Take the execution's lock and read it. Raises: `ExecutionNotFound`."""
    rows = _rows("lock_execution", execution_id=execution_id)
    if not rows:
        raise ExecutionNotFound(execution_id)
    return LockedExecution(*_row(rows[0]))


def lock_execution_if_free(execution_id: int) -> LockedExecution | None:
    """Take the execution's lock unless somebody holds it."""
    rows = _rows("lock_execution_if_free", execution_id=execution_id)
    return LockedExecution(*_row(rows[0])) if rows else None


def read_execution(execution_id: int) -> StoredExecution:
    """Read an execution without its lock. Raises: `ExecutionNotFound`."""
    rows = _rows("read_execution", execution_id=execution_id)
    if not rows:
        raise ExecutionNotFound(execution_id)
    return StoredExecution(*_row(rows[0]))


def _row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    id_, version_id, status, workload, state, last_seq, now = row
    data = _value(state)
    usable = data is not None and data.get("format") == states.FORMAT
    return id_, version_id, status, json.loads(workload), data if usable else None, last_seq, now


def append_events(execution_id: int, events: Sequence[Event]) -> None:
    """Append events by one statement. The caller holds the execution's lock."""
    if not events:
        return
    _execute(
        "append_events",
        execution_id=execution_id,
        seqs=[event.seq for event in events],
        formats=[ev.FORMAT] * len(events),
        types=[event.type for event in events],
        node_ids=[event.node_id for event in events],
        node_names=[event.node_name for event in events],
        node_types=[event.node_type for event in events],
        statuses=[event.status for event in events],
        durations=[event.duration_seconds for event in events],
        contexts=[_json(event.context) for event in events],
        results=[_json(event.result) for event in events],
        metas=[_json(event.meta) for event in events],
        errors=[_json(event.error) for event in events],
        stack_traces=[event.traceback for event in events],
        loop_names=[event.loop_name for event in events],
        indexes=[event.index for event in events],
        items=[_json(event.item) for event in events],
        worker_ids=[event.worker_id for event in events],
        posted_ids=[event.posted_id for event in events],
    )


def is_posted_id_taken(execution_id: int, posted_id: str) -> bool:
    """Whether an event of the execution was posted under this id. The caller holds its lock."""
    return bool(_rows("posted_id", execution_id=execution_id, posted_id=posted_id))


def save_state(execution_id: int, state: State, last: Event | None) -> None:
    """Store the state after an evaluation; a terminal event gives the execution its result or its error."""
    terminal = last if last is not None and last.type in ev.TERMINAL else None
    _execute(
        "save_state",
        execution_id=execution_id,
        status=state.status,
        state=_json(states.encode(state)),
        last_seq=state.seq,
        result=_json(terminal.result) if terminal else None,
        error=_json(terminal.error) if terminal else None,
    )


def mark_for_evaluation(execution_id: int, last_seq: int, *, error: str = "") -> None:
    """Put the evaluation off; `error` tells why one has just failed."""
    _execute("mark_for_evaluation", execution_id=execution_id, last_seq=last_seq, failed=int(bool(error)), error=error)


def set_last_seq(execution_id: int, last_seq: int) -> None:
    """Record that annotations were appended."""
    _execute("set_last_seq", execution_id=execution_id, last_seq=last_seq)


def find_to_evaluate(older_than_seconds: float, count: int) -> list[int]:
    """Executions whose evaluation was put off at least so long ago."""
    return [row[0] for row in _rows("to_evaluate", older_than_seconds=older_than_seconds, count=count)]


def events_since(execution_id: int, seq: int) -> list[Event]:
    """The events after `seq`, in order."""
    return [
        Event(
            row[0], row[1], row[2], row[3], row[4], status=row[5], context=_value(row[6]), result=_value(row[7]),
            meta=_value(row[8]), error=_value(row[9]), traceback=row[10], loop_name=row[11], index=row[12],
            item=_value(row[13]), duration_seconds=row[14], worker_id=row[15],
        )
        for row in _rows("events_since", execution_id=execution_id, seq=seq)
    ]  # fmt: skip


def load_facts(facts: Facts, wanted: Wanted) -> None:
    """Add the wanted stored values to `facts`."""
    execution_id = int(facts.execution_id)
    if wanted.results or wanted.loops:
        facts.results.update(_step_results(execution_id, wanted.results | wanted.loops))
    for node_id in wanted.loops:
        facts.loops[node_id] = _item_results(execution_id, node_id)
    if wanted.transitions:
        rows = _rows("transition_inputs", execution_id=execution_id, seqs=sorted(wanted.transitions))
        for seq, taken in rows:
            facts.transitions[seq] = {item["step"]: item["inputs"] for item in json.loads(taken)}
    if wanted.items:
        rows = _rows("loop_items", execution_id=execution_id, node_ids=sorted(wanted.items))
        facts.items.update((node_id, json.loads(items)) for node_id, items in rows)


def _step_results(execution_id: int, node_ids: Iterable[str]) -> dict[str, StepResult]:
    """Results by node: the action's outcome, under what the step itself made of it (`end.result`, an error)."""
    found: dict[str, StepResult] = {}
    for node_id, type_, result, error in _rows("step_outcomes", execution_id=execution_id, node_ids=sorted(node_ids)):
        before = found.get(node_id)
        data = _value(result) if result is not None or before is None else before.data
        ended_well = type_ in (ev.ACTION_COMPLETED, ev.STEP_COMPLETED)
        found[node_id] = StepResult("success", data) if ended_well else StepResult("error", data, _value(error))
    return found


def _item_results(execution_id: int, node_id: str) -> dict[int, StepResult]:
    """The outcomes of a loop's items, by index."""
    step, _, visit = node_id.partition(":")[2].partition("#")
    rows = _rows("item_outcomes", execution_id=execution_id, loop_name=step, visit=visit)
    return {index: _item_result(type_, result, error) for index, type_, result, error in rows}


def _item_result(type_: str, result: str | None, error: str | None) -> StepResult:
    if type_ == ev.ACTION_COMPLETED:
        return StepResult("success", _value(result))
    return StepResult("error", _value(result), _value(error))


def count_items(execution_id: int, node_id: str) -> tuple[int, int]:
    """How many items of a loop have succeeded, and how many have failed, by the node of its step."""
    step, _, visit = node_id.partition(":")[2].partition("#")
    row = _rows("count_items", execution_id=execution_id, loop_name=step, visit=visit)[0]
    return row[0], row[1]
