"""Timers: when an execution is to be told that a time has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from executions.domain.commands import SetTimer
from executions.store.statements import execute, rows


@dataclass(frozen=True, slots=True)
class DueTimer:
    """A timer whose time has come, taken out of its table."""

    node_id: str
    kind: str
    due_at: datetime


def timers_of(execution_id: int) -> set[tuple[str, str]]:
    """The nodes and kinds of the timers that an execution has. The caller holds its lock."""
    return {(node_id, kind) for node_id, kind in rows("timers_of", execution_id=execution_id)}


def set_timers(execution_id: int, timers: Sequence[SetTimer]) -> None:
    """Set timers, from now on the database's clock. The caller holds the execution's lock."""
    if not timers:
        return
    execute(
        "set_timers",
        execution_id=execution_id,
        node_ids=[timer.node_id for timer in timers],
        kinds=[timer.kind for timer in timers],
        seconds=[timer.seconds for timer in timers],
        untils=[timer.until for timer in timers],
    )


def find_due_executions(count: int) -> list[int]:
    """Executions with a timer whose time has come, the longest overdue first; seen without a lock."""
    return [row[0] for row in rows("due_executions", count=count)]


def take_due_timers(execution_id: int) -> list[DueTimer]:
    """Take out the timers whose time has come, in its order. The caller holds the execution's lock."""
    return [DueTimer(*row) for row in rows("take_due_timers", execution_id=execution_id)]


def drop_timers(execution_id: int, nodes: Sequence[str] | None = None) -> None:
    """Call off the timers at these nodes and below them, in any visit, or all. The caller holds the lock."""
    if nodes is None:
        execute("drop_all_timers", execution_id=execution_id)
    elif nodes:
        execute("drop_timers", execution_id=execution_id, nodes=list(nodes))
