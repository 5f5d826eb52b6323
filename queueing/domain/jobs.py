"""Jobs as values: what is put into the queue, and what a worker gets of it. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from queueing.domain.limits import Limit

QUEUED: Final = "queued"
LEASED: Final = "leased"
DONE: Final = "done"
FAILED: Final = "failed"
DEAD: Final = "dead"
CANCELLED: Final = "cancelled"
STATUSES: Final = (QUEUED, LEASED, DONE, FAILED, DEAD, CANCELLED)

ENGINE: Final = "engine"
EXTERNAL: Final = "external"
"""Where a job comes from: the planner, or somebody's hand (its outcome is nothing to plan with)."""

DEFAULT_POOL: Final = "default"
DEFAULT_MAX_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued. `action` is rendered: `{kind, arguments, inputs}`; one per (execution, node).

    `uuid` is the same for every attempt; `available_at` None is now. `held`: nobody may lease it, its execution is
    paused. `limits` are two at most.
    """

    execution_id: int
    node_id: str
    node_name: str
    kind: str
    action: dict[str, Any]
    context: dict[str, Any]
    uuid: str
    item_index: int | None = None
    timeout_seconds: float | None = None
    pool: str = DEFAULT_POOL
    priority: int = 0
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    origin: str = ENGINE
    available_at: datetime | None = None
    held: bool = False
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Fence:
    """What a holder must show to change a job: which lease it speaks of (rule R3)."""

    job_id: int
    attempt: int
    lease_token: str


@dataclass(frozen=True, slots=True)
class FoundJob:
    """Whose job it is: what never changes of it. An external job belongs to no step of a playbook."""

    execution_id: int
    origin: str

    @property
    def is_external(self) -> bool:
        """Whether a client queued it, not the engine."""
        return self.origin == EXTERNAL


@dataclass(frozen=True, slots=True)
class HeldJob:
    """Where a job stands that somebody holds."""

    execution_id: int
    node_id: str
    node_name: str
    item_index: int | None


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job in a worker's hands until `lease_until` (the database's clock)."""

    id: int
    execution_id: int
    node_id: str
    node_name: str
    kind: str
    action: dict[str, Any]
    context: dict[str, Any]
    uuid: str
    item_index: int | None
    timeout_seconds: float | None
    pool: str
    priority: int
    attempt: int
    lease_token: str
    leased_at: datetime
    lease_until: datetime

    @property
    def fence(self) -> Fence:
        """The fence of this lease."""
        return Fence(self.id, self.attempt, self.lease_token)
