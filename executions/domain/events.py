"""Events: what happened in an execution, in order. Knows their names and node ids, not how they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from executions.errors import EventsTooNew

FORMAT: Final = 1
"""Version of the event form, written with every event; old formats must still fold, newer ones are refused."""

EXECUTION_START: Final = "execution_start"
EXECUTION_COMPLETED: Final = "execution_completed"
EXECUTION_FAILED: Final = "execution_failed"
EXECUTION_CANCELLED: Final = "execution_cancelled"
STEP_STARTED: Final = "step_started"
STEP_SKIP: Final = "step_skip"
STEP_COMPLETED: Final = "step_completed"
STEP_FAILED: Final = "step_failed"
ACTION_STARTED: Final = "action_started"
ACTION_COMPLETED: Final = "action_completed"
ACTION_ERROR: Final = "action_error"
LEASE_LOST: Final = "lease_lost"
LOOP_START: Final = "loop_start"
LOOP_ITERATION: Final = "loop_iteration"
LOOP_ITERATION_COMPLETED: Final = "loop_iteration_completed"
LOOP_COMPLETED: Final = "loop_completed"
CHILD_STARTED: Final = "child_started"
CHILD_COMPLETED: Final = "child_completed"
ACTION_RETRY: Final = "action_retry"
WAIT_STARTED: Final = "wait_started"
WAIT_COMPLETED: Final = "wait_completed"
SIGNAL_RECEIVED: Final = "signal_received"
TIMER_FIRED: Final = "timer_fired"
EXECUTION_PAUSED: Final = "execution_paused"
EXECUTION_RESUMED: Final = "execution_resumed"
CANCEL_REQUESTED: Final = "cancel_requested"
SAVE_STARTED: Final = "save_started"
SAVE_SKIP: Final = "save_skip"
UNDO_STARTED: Final = "undo_started"
STEP_UNDONE: Final = "step_undone"
FINALLY_STARTED: Final = "finally_started"
NOTIFYING_STARTED: Final = "notifying_started"
TRANSITION_EVALUATED: Final = "transition_evaluated"
LATE_RESULT: Final = "late_result"
ANNOTATION: Final = "annotation"
WARNING: Final = "warning"

TERMINAL: Final = frozenset({EXECUTION_COMPLETED, EXECUTION_FAILED, EXECUTION_CANCELLED})
OUTCOMES: Final = frozenset({ACTION_COMPLETED, ACTION_ERROR, CHILD_COMPLETED})
"""What the work of a node came to: one per node."""
ANNOTATIONS: Final = frozenset(
    {ACTION_STARTED, ACTION_RETRY, CHILD_STARTED, LEASE_LOST, LATE_RESULT, ANNOTATION, WARNING}
)
"""Events that tell something and change no state. An `annotation` was posted from outside: `meta.posted_type` has the
type it was posted with, which may be one of the engine's own, and then must not be taken for one."""

SPELLINGS: Final = {
    "task_complete": ACTION_COMPLETED,
    "task_completed": ACTION_COMPLETED,
    "task_error": ACTION_ERROR,
    "action_failed": ACTION_ERROR,
}
"""Other spellings of outcomes that workers of the original post."""

UNDO: Final = "undo"
"""Mark of the node of an undoing."""
SAVE: Final = "save"
"""Mark of the node of a save; `save:K` of that of the K-th chunk of a loop's items, from 0."""

NODE_EXECUTION: Final = "playbook"
NODE_STEP: Final = "step"
NODE_LOOP: Final = "loop"
NODE_ITERATION: Final = "iteration"
NODE_TRANSITION: Final = "transition"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `seq` is dense per execution, from 1.

    `error` is `{code, message, ...}`. `loop_name` and `index` are set on events of one item of a loop, whose items
    stand in its `loop_start`. `duration_seconds` is the time of the action whose outcome the event is. `posted_id`
    is the id that whoever posted the event gave it, if they did.
    """

    seq: int
    type: str
    node_id: str
    node_name: str
    node_type: str
    status: str = ""
    context: Any = None
    result: Any = None
    error: Any = None
    meta: Any = None
    loop_name: str | None = None
    index: int | None = None
    item: Any = None
    duration_seconds: float = 0.0
    traceback: str | None = None
    worker_id: str | None = None
    posted_id: str | None = None


def refuse_newer(execution_id: int | str, formats: Iterable[int]) -> None:
    """Raises: `EventsTooNew` when one of these formats of events is newer than `FORMAT`."""
    newest = max(formats, default=FORMAT)
    if newest > FORMAT:
        raise EventsTooNew(execution_id, newest, FORMAT)


def step_node_id(execution_id: str, step: str, visit: int = 1, path: tuple[int, ...] = ()) -> str:
    """`execution:step[:index ...][#visit]`; the visit shows from the second on. Source: docs/language.md."""
    items = "".join(f":{index}" for index in path)
    turn = "" if visit == 1 else f"#{visit}"
    return f"{execution_id}:{step}{items}{turn}"


@dataclass(frozen=True, slots=True)
class NodeId:
    """A node id taken apart: the items' indexes, outermost first, the visit from 1, whether it is an undoing or a save.

    `chunk` is set when it is the save of some items of the step's loop.
    """

    step: str
    path: tuple[int, ...]
    visit: int
    undo: bool = False
    save: bool = False
    chunk: int | None = None


def parse_node_id(node_id: str) -> NodeId:
    """Take a step's node id apart. Raises: `ValueError` when it is none."""
    place, *marks = node_id.split("#")
    _, step, *indexes = place.split(":")
    mark, _, chunk = marks[-1].partition(":") if marks else ("", "", "")
    undo, save = mark == UNDO, mark == SAVE
    numbers = marks[:-1] if undo or save else marks
    visit = int(numbers[0]) if numbers else 1
    return NodeId(step, tuple(map(int, indexes)), visit, undo, save, int(chunk) if save and chunk else None)


_STATUSES: Final = {
    "completed": frozenset({"completed", "complete", "success", "succeeded", "done"}),
    "failed": frozenset({"error", "failed", "failure"}),
    "running": frozenset({"running", "run", "in_progress", "in-progress", "progress", "started", "start"}),
}


def normalised_status(status: str) -> str:
    """An event's status as one of `pending`, `running`, `completed`, `failed`, whatever its spelling."""
    lowered = status.strip().lower()
    return next((name for name, spellings in _STATUSES.items() if lowered in spellings), "pending")


def undo_node_id(node_id: str) -> str:
    """The node of the action that undoes what was done at a node."""
    return f"{node_id}#{UNDO}"


def save_node_id(node_id: str, chunk: int | None = None) -> str:
    """The node of what saves the result of a node, or of a chunk of the items of its loop."""
    return f"{node_id}#{SAVE}" if chunk is None else f"{node_id}#{SAVE}:{chunk}"
