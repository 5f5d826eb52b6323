"""What the report of a job becomes in the log: the same events for every shell.

Knows neither leases nor queues; who may report is the shell's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.values import as_stored


class Reported(Protocol):
    """What is said of a job's action. `error` is `{code, message}` of a failed one, and may have
    `retry_after_seconds`: the least pause before the next try."""

    @property
    def status(self) -> Literal["success", "error"]: ...
    @property
    def data(self) -> Any: ...
    @property
    def error(self) -> Mapping[str, Any] | None: ...
    @property
    def traceback(self) -> str | None: ...
    @property
    def duration_seconds(self) -> float: ...
    @property
    def posted_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """How an action ended, for shells that know no leases."""

    status: Literal["success", "error"]
    data: Any = None
    error: Mapping[str, Any] | None = None
    traceback: str | None = None
    duration_seconds: float = 0.0
    posted_id: str | None = None


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Which job an event is about; `index` is the item's place when the job is one item of a loop."""

    node_id: str
    step: str
    index: int | None = None
    worker_id: str | None = None

    def fields(self) -> dict[str, Any]:
        """The fields of an event that tell it."""
        is_item = self.index is not None
        return {
            "node_id": self.node_id,
            "node_name": self.step,
            "node_type": ev.NODE_ITERATION if is_item else ev.NODE_STEP,
            "loop_name": self.step if is_item else None,
            "index": self.index,
            "worker_id": self.worker_id,
        }


def outcome_events(
    seq: int, place: JobPlace, said: Reported, meta: Mapping[str, Any], leased_at: str | None
) -> list[Event]:
    """`action_started` as `seq`, and the outcome after it. `meta` tells the attempt; `leased_at` is RFC 3339."""
    started = {**meta, "leased_at": leased_at}
    return [
        Event(seq, ev.ACTION_STARTED, status="running", meta=started, **place.fields()),
        Event(seq + 1, _type_of(said), meta=dict(meta), **place.fields(), **_told(said)),
    ]


def late_result(seq: int, place: JobPlace, said: Reported, meta: Mapping[str, Any]) -> Event:
    """What was said of a job whose execution had ended: kept, and nothing follows."""
    return Event(seq, ev.LATE_RESULT, meta=dict(meta), **place.fields(), **_told(said))


def outside_outcome(seq: int, place: JobPlace, said: Reported, meta: Mapping[str, Any]) -> Event:
    """What was said of a job that was enqueued by hand: nothing to plan with, as no step waits for it."""
    told = {**meta, "posted_type": _type_of(said)}
    return Event(seq, ev.ANNOTATION, meta=told, **place.fields(), **_told(said))


def as_retry(outcome: Event, tries: int, delay_seconds: float) -> Event:
    """A failed try that is repeated, in the place of its outcome; `tries` counts it and those before."""
    return replace(outcome, type=ev.ACTION_RETRY, context={"try": tries, "delay_seconds": delay_seconds})


def _type_of(said: Reported) -> str:
    return ev.ACTION_COMPLETED if said.status == "success" else ev.ACTION_ERROR


def _told(said: Reported) -> dict[str, Any]:
    return {
        "status": said.status,
        "result": as_stored(said.data),
        "error": None if said.status == "success" else as_stored(_error_of(said)),
        "traceback": said.traceback,
        "duration_seconds": said.duration_seconds,
        "posted_id": said.posted_id,
    }


def _error_of(said: Reported) -> dict[str, Any]:
    return {"code": "action_failed", "message": "the action failed without a message", **(said.error or {})}


def child_outcome(execution_id: str, path: str, status: str, error: Any) -> dict[str, Any]:
    """What `child_completed` tells a parent of an execution that did not complete: `status` and `error`."""
    cause = error if isinstance(error, Mapping) else {}
    message = cause.get("message") or f"it was {status}"
    told = {
        "code": "child_cancelled" if status == "cancelled" else "child_failed",
        "message": f"the child execution {execution_id} of {path} has not completed: {message}",
        "execution_id": execution_id,
        "cause": cause or None,
    }
    return {"status": "error", "error": told}


def child_answer_invalid(execution_id: str, problem: Exception) -> dict[str, Any]:
    """What `child_completed` tells when what the parent asks for cannot be rendered."""
    message = f"what the child execution {execution_id} should return cannot be rendered: {problem}"
    return {"status": "error", "error": {"code": "child_answer_invalid", "message": message}}


def child_refused(code: str, message: str) -> dict[str, Any]:
    """What `child_completed` tells when no child could be started."""
    return {"status": "error", "error": {"code": code, "message": message}}
