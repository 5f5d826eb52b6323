"""Child executions, from their parent's side. Locks go from the parent to the child, never back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from executions.store.statements import execute, json_text, json_value, rows


@dataclass(frozen=True, slots=True)
class NewChild:
    """A child to insert: its row, and the parent's node that waits for it."""

    id: int
    playbook_version_id: int
    path: str
    version: str
    workload: dict[str, Any]
    meta: dict[str, Any]
    node_id: str
    priority: int


@dataclass(frozen=True, slots=True)
class EndedChild:
    """A child that has ended and whose parent was not told: (its id, the parent's node)."""

    id: int
    node_id: str


def insert_children(parent_execution_id: int, depth: int, created_by: str, children: Sequence[NewChild]) -> set[int]:
    """Insert children whose evaluation is put off. The caller holds the parent's lock.

    Returns: the ids of those that were new: a node has one child.
    """
    if not children:
        return set()
    found = rows(
        "insert_children",
        ids=[child.id for child in children],
        version_ids=[child.playbook_version_id for child in children],
        paths=[child.path for child in children],
        versions=[child.version for child in children],
        workloads=[json_text(child.workload) for child in children],
        metas=[json_text(child.meta) for child in children],
        node_ids=[child.node_id for child in children],
        priorities=[child.priority for child in children],
        parent_execution_id=parent_execution_id,
        depth=depth,
        created_by=created_by,
    )
    return {row[0] for row in found}


def close_children(execution_id: int, reason: str, nodes: Sequence[str] | None = None) -> list[int]:
    """Wait no more for the children at these nodes and below them, or for any; ask those that run to cancel.

    The caller holds the parent's lock. Returns: the ids of those that were asked.
    """
    found = rows(
        "close_children", execution_id=execution_id, reason=reason, nodes=None if nodes is None else list(nodes)
    )
    return [id_ for id_, is_asked in found if is_asked]


def find_ended_children(execution_id: int, count: int) -> list[EndedChild]:
    """Children that have ended and that their parent waits for. The caller holds the parent's lock."""
    return [EndedChild(*row) for row in rows("ended_children", execution_id=execution_id, count=count)]


def mark_told(ids: Sequence[int]) -> None:
    """Record that the parent was told how these children ended. The caller holds the parent's lock."""
    execute("mark_told", ids=list(ids))


def find_parents_to_tell(older_than_seconds: float, count: int) -> list[int]:
    """Executions with children that ended at least so long ago, and that they were not told of."""
    return [row[0] for row in rows("parents_to_tell", older_than_seconds=older_than_seconds, count=count)]


def child_requests(execution_id: int, node_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the children at these nodes were asked for: path, version, payload."""
    found = rows("child_requests", execution_id=execution_id, node_ids=list(node_ids))
    return {node_id: json_value(request) for node_id, request in found if request is not None}
