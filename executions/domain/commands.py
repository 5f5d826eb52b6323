"""Commands: what a plan asks the shell to do beside appending events. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TimerKind = Literal["wait", "timeout", "late"]
"""What it is set for: the end of a `wait`, the `timeout` of a step or of the whole execution, or that it is late.

Of `late` the node is that of the step that tells so, and which has not started."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Ask for a `timer_fired` at a node after so many seconds, or at a time (RFC 3339, aware); one per node and kind.

    The node of the execution's own timeout is the execution id. The event has `context.kind`.
    """

    node_id: str
    kind: TimerKind
    seconds: float | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class StartChild:
    """Ask for a child execution of `path` with `payload`; `version` None is the newest.

    The shell answers with `child_started` and, at last, `child_completed` at the node; when no child can be started,
    with a failed `child_completed` alone. `answer` is what the child's result is taken from (`Child.answer`);
    `priority` is the step's, for a child whose playbook has none.
    """

    node_id: str
    step: str
    index: int | None
    path: str
    version: str | None
    payload: dict[str, Any]
    answer: str | None
    priority: int | None = None
