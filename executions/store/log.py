"""The event log, and the large results beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from executions.domain import events as ev
from executions.domain.events import Event
from executions.store.statements import execute, json_text, json_value, rows


@dataclass(frozen=True, slots=True)
class Shortened:
    """A result as its row holds it. `key` is set when it is kept beside the log: `text` is a note then, `whole` it.

    The note is for people. What refers is the column `result_ref` alone: data that looks like a note is data.
    """

    text: str | None
    key: str | None = None
    whole: str = ""


def shortened(result: Any) -> Shortened:
    """How a result is stored in its row."""
    text = json_text(result)
    # JSON text is ASCII here: characters are bytes.
    if text is None or len(text) <= settings.NOETL_INLINE_RESULT_BYTES:
        return Shortened(text)
    key = hashlib.sha256(text.encode()).hexdigest()
    return Shortened(json_text({"$ref": {"sha256": key, "bytes": len(text)}}), key, text)


def append_events(execution_id: int, events: Sequence[Event]) -> None:
    """Append events by one statement. The caller holds the execution's lock."""
    _append([(execution_id, event) for event in events])


def append_first_events(started: Mapping[int, Event]) -> None:
    """Append the first event of each of these executions, which the caller has inserted."""
    _append(list(started.items()))


def _append(news: Sequence[tuple[int, Event]]) -> None:
    if not news:
        return
    events = [event for _, event in news]
    results = [shortened(event.result) for event in events]
    large = [(id_, kept) for (id_, _), kept in zip(news, results, strict=True) if kept.key is not None]
    if large:
        execute(
            "keep_large_results",
            execution_ids=[id_ for id_, _ in large],
            keys=[kept.key for _, kept in large],
            datas=[kept.whole for _, kept in large],
            sizes=[len(kept.whole) for _, kept in large],
        )
    # One document: encoding it and taking it apart costs less than an array for each column.
    documents = [_document(id_, event, kept) for (id_, event), kept in zip(news, results, strict=True)]
    execute("append_events", events=json_text(documents))


def _document(execution_id: int, event: Event, kept: Shortened) -> dict[str, Any]:
    """An event as the row it becomes; the result comes as text, as it has been encoded already."""
    return {
        "execution_id": execution_id,
        "seq": event.seq,
        "format": ev.FORMAT,
        "event_type": event.type,
        "node_id": event.node_id,
        "node_name": event.node_name,
        "node_type": event.node_type,
        "status": event.status,
        "duration": event.duration_seconds,
        "context": event.context,
        "result": kept.text,
        "result_ref": kept.key,
        "meta": event.meta,
        "error": event.error,
        "stack_trace": event.traceback,
        "loop_name": event.loop_name,
        "current_index": event.index,
        "current_item": event.item,
        "worker_id": event.worker_id,
        "posted_id": event.posted_id,
    }


def events_since(execution_id: int, seq: int, *, whole: bool = True) -> list[Event]:
    """The events after `seq`, in order; `whole`: with their large results. Raises: `EventsTooNew`."""
    found = rows("events_since", execution_id=execution_id, seq=seq, whole=whole)
    ev.refuse_newer(execution_id, (row[16] for row in found))
    return [
        Event(
            row[0],
            row[1],
            row[2],
            row[3],
            row[4],
            status=row[5],
            context=json_value(row[6]),
            result=json_value(row[7]),
            meta=json_value(row[8]),
            error=json_value(row[9]),
            traceback=row[10],
            loop_name=row[11],
            index=row[12],
            item=json_value(row[13]),
            duration_seconds=row[14],
            worker_id=row[15],
        )
        for row in found
    ]


def event_times(execution_id: int) -> dict[int, str]:
    """By seq when each event was recorded, RFC 3339."""
    return {seq: at.isoformat() for seq, at in rows("event_times", execution_id=execution_id)}


def large_results(execution_id: int, keys: Iterable[str]) -> dict[str, Any]:
    """Large results of an execution by their keys."""
    found = rows("large_results", execution_id=execution_id, keys=sorted(set(keys)))
    return {key: json_value(text) for key, text in found}


@dataclass(frozen=True, slots=True)
class PostedEvent:
    """An event that was posted under an id of its own."""

    seq: int
    node_id: str
    type: str


def find_posted(execution_id: int, posted_id: str) -> PostedEvent | None:
    """The event of the execution that was posted under this id. The caller holds its lock."""
    found = rows("find_posted", execution_id=execution_id, posted_id=posted_id)
    return PostedEvent(*found[0]) if found else None


def open_approvals(execution_id: int) -> list[tuple[str, str]]:
    """Where an approval has been asked for and neither answered nor ended: (node id, step)."""
    return [(node_id, name) for node_id, name in rows("open_approvals", execution_id=execution_id)]


def count_items(execution_id: int, node_id: str) -> tuple[int, int]:
    """How many items of a loop have succeeded, and how many have failed, by the node of its step."""
    place, _, visit = node_id.partition("#")
    step = place.split(":")[1]
    row = rows("count_items", execution_id=execution_id, loop_name=step, prefix=f"{place}:", visit=visit)[0]
    return row[0], row[1]
