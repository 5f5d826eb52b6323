"""The rows of `execution`: the lock, the stored state, what is put off."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from executions.domain import events as ev
from executions.domain import state as states
from executions.domain.events import Event
from executions.domain.state import State
from executions.errors import ExecutionNotFound
from executions.store.log import shortened
from executions.store.statements import ask, execute, json_text, json_value, rows

MAX_ID: Final = 2**63 - 1


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
    rerun_of: int | None = None
    priority: int = 0


@dataclass(slots=True)
class StoredExecution:
    """An execution's row as it was at `now`.

    `cancel_reason` is set while it is asked to cancel by what happened to its parent. `depth` is 0 for one that was
    started by itself. `priority` is that of jobs whose step has none.
    """

    id: int
    playbook_version_id: int
    status: str
    workload: dict[str, Any]
    state_data: dict[str, Any] | None
    last_seq: int
    now: datetime
    parent_execution_id: int | None
    parent_node_id: str | None
    depth: int
    cancel_reason: str | None
    created_by: str
    rerun_of: int | None
    priority: int

    def state(self) -> State:
        """A fresh copy of the stored state, or the empty one when it must be rebuilt from the log."""
        return State() if self.state_data is None else states.decode(self.state_data)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self.status in ("completed", "failed", "cancelled")

    @property
    def is_paused(self) -> bool:
        """Whether nothing is planned until it is resumed."""
        return self.status == "paused"


@dataclass(slots=True)
class LockedExecution(StoredExecution):
    """An execution whose row the caller's transaction has locked, read under that lock.

    `news` are events that follow those of the row and are as the log will give them; the last `unwritten` of them are
    yet to be appended.
    """

    news: list[Event] = field(default_factory=list)
    unwritten: int = 0

    def take_in(self, events: Sequence[Event]) -> None:
        """Note what is to be appended to its log."""
        self.news.extend(events)
        self.unwritten += len(events)
        self.last_seq = events[-1].seq

    def take_unwritten(self) -> list[Event]:
        """What is yet to be appended; whoever asks appends it."""
        events = self.news[len(self.news) - self.unwritten :]
        self.unwritten = 0
        return events


def new_id() -> int:
    """A new id, later than all before it."""
    return new_ids(1)[0]


def new_ids(count: int) -> list[int]:
    """So many new ids."""
    return [row[0] for row in rows("new_ids", count=count)]


def insert_execution(new: NewExecution) -> LockedExecution | None:
    """Insert an execution, which has the empty state: its row is the caller's then, as if locked.

    Returns: None when its idempotency key is taken, and nothing was inserted.
    """
    found = rows(
        "insert_execution",
        id=new.id,
        playbook_version_id=new.playbook_version_id,
        path=new.path,
        version=new.version,
        workload=json_text(new.workload),
        idempotency_key=new.idempotency_key,
        request_hash=new.request_hash,
        created_by=new.created_by,
        meta=json_text(new.meta),
        rerun_of=new.rerun_of,
        priority=new.priority,
    )
    if not found:
        return None
    locked = LockedExecution(*_row(found[0]))
    # Not a state that is to be rebuilt: nothing has happened yet, and there are no frames.
    locked.state_data = states.encode(State())
    return locked


def find_start(idempotency_key: str) -> tuple[int, str]:
    """The execution that was started with this key: (id, hash of its request)."""
    row = rows("find_start", idempotency_key=idempotency_key)[0]
    return row[0], row[1]


def is_start_known(idempotency_key: str) -> bool:
    """Whether an execution was started with this key."""
    return bool(rows("find_start", idempotency_key=idempotency_key))


def count_running_up_to(bound: int) -> int:
    """How many executions have not ended; no more than `bound` are counted."""
    count: int = rows("count_open", bound=bound)[0][0]
    return count


def lock_execution(execution_id: int) -> LockedExecution:
    """Take the execution's lock and read it. Raises: `ExecutionNotFound`."""
    return ask_for_lock(execution_id)()


def ask_for_lock(execution_id: int) -> Callable[[], LockedExecution]:
    """Take the execution's lock before whatever the caller asks the database for next.

    Returns: what gives the execution. It raises: `ExecutionNotFound`.
    """
    asked = ask("lock_execution", execution_id=execution_id)

    def take() -> LockedExecution:
        found = asked()
        if not found:
            raise ExecutionNotFound(execution_id)
        return LockedExecution(*_row(found[0]))

    return take


def lock_execution_if_free(execution_id: int) -> LockedExecution | None:
    """Take the execution's lock unless somebody holds it."""
    found = rows("lock_execution_if_free", execution_id=execution_id)
    return LockedExecution(*_row(found[0])) if found else None


def read_execution(execution_id: int) -> StoredExecution:
    """Read an execution without its lock. Raises: `ExecutionNotFound`."""
    found = rows("read_execution", execution_id=execution_id)
    if not found:
        raise ExecutionNotFound(execution_id)
    return StoredExecution(*_row(found[0]))


def read_view(execution_id: int) -> dict[str, Any] | None:
    """An execution's row as its users see it, a large result in its place, with the number of its children."""
    found = rows("read_view", execution_id=execution_id)
    if not found:
        return None
    row = dict(zip(_VIEW, found[0], strict=True))
    return row | {name: json_value(row[name]) for name in ("workload", "state", "result", "error")}


_VIEW: Final = (
    "id", "playbook_version_id", "path", "version", "status", "workload", "state", "result", "error",
    "parent_execution_id", "parent_node_id", "rerun_of", "created_at", "started_at", "ended_at", "priority",
    "children_count",
)  # fmt: skip


def _row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    id_, version_id, status, workload, state, *rest = row
    data = json_value(state)
    usable = data is not None and data.get("format") == states.FORMAT
    return id_, version_id, status, json.loads(workload), data if usable else None, *rest


def save_state(execution_id: int, state: State, last: Event | None) -> None:
    """Store the state after an evaluation; a terminal event gives the execution its result or its error."""
    terminal = last if last is not None and last.type in ev.TERMINAL else None
    kept = shortened(terminal.result) if terminal else None
    execute(
        "save_state",
        execution_id=execution_id,
        status=state.status,
        state=json_text(states.encode(state)),
        last_seq=state.seq,
        result=kept.text if kept else None,
        result_ref=kept.key if kept else None,
        error=json_text(terminal.error) if terminal else None,
    )


def mark_for_evaluation(execution_id: int, last_seq: int, *, error: str = "") -> None:
    """Put the evaluation off; `error` tells why one has just failed."""
    execute("mark_for_evaluation", execution_id=execution_id, last_seq=last_seq, failed=int(bool(error)), error=error)


def set_last_seq(execution_id: int, last_seq: int) -> None:
    """Record that events were appended that nothing is planned with now."""
    execute("set_last_seq", execution_id=execution_id, last_seq=last_seq)


def forget_cancel_request(execution_id: int) -> None:
    """Record that the wish to cancel it has come into its log."""
    execute("forget_cancel_request", execution_id=execution_id)


def find_to_evaluate(older_than_seconds: float, count: int) -> list[int]:
    """Executions whose evaluation was put off at least so long ago."""
    return [row[0] for row in rows("to_evaluate", older_than_seconds=older_than_seconds, count=count)]


def find_without_work(older_than_seconds: float, count: int | None, after: int) -> list[int]:
    """Executions with later ids that have not ended, own nothing, and have not moved for so long; at most `count`."""
    return [row[0] for row in _without_work(after + 1, MAX_ID, older_than_seconds, count)]


def is_without_work(execution_id: int) -> bool:
    """Whether it has not ended and owns nothing. The caller holds its lock."""
    return bool(_without_work(execution_id, execution_id, 0, 1))


def _without_work(first_id: int, last_id: int, older_than_seconds: float, count: int | None) -> list[Any]:
    return rows("without_work", first_id=first_id, last_id=last_id, older_than_seconds=older_than_seconds, count=count)


@dataclass(frozen=True, slots=True)
class EndOfExecution:
    """How an execution ended, its large result in its place; `meta` is what was noted at its start."""

    path: str
    result: Any
    error: Any
    meta: dict[str, Any]


def read_end(execution_id: int) -> EndOfExecution:
    """How an execution ended. Raises: `ExecutionNotFound`."""
    found = rows("read_end", execution_id=execution_id)
    if not found:
        raise ExecutionNotFound(execution_id)
    path, result, error, meta = found[0]
    return EndOfExecution(path, json_value(result), json_value(error), json_value(meta) or {})
