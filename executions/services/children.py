"""Child executions: started in their parent's transaction, evaluated in their own, told of in the parent's again.

Locks go from the parent to the child, never back: a child that ends locks nobody else, and its parent is nudged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.conf import settings

from catalog.api import CatalogError, PinnedVersion, PlaybookNotFound, load_playbook, pin_playbook_version
from executions import store
from executions.domain import events as ev
from executions.domain.answers import answer_of
from executions.domain.commands import StartChild
from executions.domain.events import Event
from executions.domain.outcomes import JobPlace, child_answer_invalid, child_outcome, child_refused
from executions.domain.sight import job_uuid
from executions.domain.start import build_workload, start_event
from executions.errors import TemplateError, WorkloadInvalid
from executions.failpoints import failpoint
from executions.services.turns import Turn
from executions.store import LockedExecution, NewChild

BATCH: Final = 500
"""Ended children that one transaction of their parent takes in."""


class _Refused(Exception):
    """A child that cannot be started: what its parent is told."""

    def __init__(self, code: str, message: str) -> None:
        self.told = child_refused(code, message)
        super().__init__(message)


def start_children(parent: LockedExecution, wanted: Sequence[StartChild], seq: int) -> tuple[list[int], list[Event]]:
    """Insert child executions whose evaluation is put off. The caller holds the parent's lock.

    Returns: the new children's ids, and the events that tell the parent, from `seq` on: `child_started`, or a failed
    `child_completed` for a child that cannot be started.
    """
    if not wanted:
        return [], []
    versions: dict[tuple[str, str | None], PinnedVersion | _Refused] = {}
    ids = store.new_ids(len(wanted))
    made: dict[str, tuple[NewChild, Event]] = {}
    refused: dict[str, _Refused] = {}
    for id_, asked in zip(ids, wanted, strict=True):
        try:
            made[asked.node_id] = _make(parent, asked, id_, versions)
        except _Refused as problem:
            refused[asked.node_id] = problem
    new = store.insert_children(parent.id, parent.depth + 1, parent.created_by, [child for child, _ in made.values()])
    store.append_first_events({child.id: start for child, start in made.values() if child.id in new})
    failpoint("child.inside")
    events: list[Event] = []
    for asked in wanted:
        about = JobPlace(asked.node_id, asked.step, asked.index).fields()
        if asked.node_id in refused:
            told = refused[asked.node_id].told
            events.append(Event(seq + len(events), ev.CHILD_COMPLETED, **told, **about))
        elif (child := made[asked.node_id][0]).id in new:
            context = {"execution_id": str(child.id), "path": child.path, "version": child.version}
            events.append(Event(seq + len(events), ev.CHILD_STARTED, status="running", context=context, **about))
    return sorted(new), events


def _make(
    parent: LockedExecution,
    asked: StartChild,
    id_: int,
    versions: dict[tuple[str, str | None], PinnedVersion | _Refused],
) -> tuple[NewChild, Event]:
    """The child's row and its first event. Raises: `_Refused`."""
    if parent.depth >= settings.NOETL_MAX_CHILD_DEPTH:
        raise _Refused("child_too_deep", f"playbooks call playbooks more than {settings.NOETL_MAX_CHILD_DEPTH} deep")
    # Once for all children of one plan: a version that is registered meanwhile does not divide a loop.
    found = versions.setdefault((asked.path, asked.version), _find(asked))
    if isinstance(found, _Refused):
        raise found
    playbook = load_playbook(found.id)
    identity = job_uuid(str(id_))
    try:
        workload = build_workload(playbook, asked.payload, settings.NOETL_TEMPLATE_ENV_VALUES, identity, merge=False)
        start = start_event(str(id_), playbook, found.version, workload)
    except WorkloadInvalid as error:
        raise _Refused(error.code, str(error)) from None
    request = {"path": asked.path, "version": asked.version, "payload": asked.payload}
    meta = {"answer": asked.answer, "request": request}
    asked_priority = parent.priority if asked.priority is None else asked.priority
    priority = asked_priority if playbook.priority is None else playbook.priority
    return NewChild(id_, found.id, found.path, found.version, workload, meta, asked.node_id, priority), start


def _find(asked: StartChild) -> PinnedVersion | _Refused:
    try:
        return pin_playbook_version(asked.path, asked.version)
    except PlaybookNotFound as error:
        return _Refused("child_not_found", str(error))
    except CatalogError as error:
        return _Refused(error.code, str(error))


# -- the way back ------------------------------------------------------------------------------------


def take_in_ended(parent: LockedExecution) -> tuple[list[Event], bool]:
    """The `child_completed` of children that have ended and that the parent waits for, each exactly once.

    They are appended here; the caller holds the parent's lock and evaluates. Returns: the events, and whether there
    may be more.
    """
    ended = store.find_ended_children(parent.id, BATCH)
    if not ended:
        return [], False
    events = [_completed(parent, child.id, child.node_id, place) for place, child in enumerate(ended, 1)]
    store.append_events(parent.id, events)
    store.mark_told([child.id for child in ended])
    parent.last_seq = events[-1].seq
    return events, len(ended) == BATCH


def _completed(parent: LockedExecution, child_id: int, node_id: str, place: int) -> Event:
    node = ev.parse_node_id(node_id)
    playbook = load_playbook(parent.playbook_version_id)
    step = playbook.steps[playbook.index_by_name[node.step]]
    is_item = step.child is not None and step.loop is not None
    job_place = JobPlace(node_id, node.step, node.path[-1] if is_item else None)
    return Event(
        parent.last_seq + place,
        ev.CHILD_COMPLETED,
        context={"execution_id": str(child_id)},
        **job_place.fields(),
        **_outcome(child_id),
    )


def _outcome(child_id: int) -> dict[str, Any]:
    """How a child ended, as its parent sees it: `status`, `result`, `error`."""
    child = store.read_execution(child_id)
    ended = store.read_end(child_id)
    if child.status != "completed":
        return child_outcome(str(child_id), ended.path, child.status, ended.error)
    turn = Turn(child)
    try:
        result = turn.ask(
            lambda state: answer_of(turn.playbook, state, turn.facts, ended.result, ended.meta.get("answer"))
        )
    except TemplateError as problem:
        return child_answer_invalid(str(child_id), problem)
    return {"status": "success", "result": result}
