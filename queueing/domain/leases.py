"""Leases as values: how a finish was judged, and what a heartbeat tells. Knows no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from queueing.domain.jobs import ENGINE

Judgement = Literal["accepted", "already_accepted", "lease_lost"]
"""`accepted`: this fence held the job and has now finished it. `already_accepted`: the same holder's repetition.
`lease_lost`: the job is in other hands or over; nothing was written."""

Ending = Literal["done", "failed", "retried", "lost", "dead", "released", "cancelled"]
"""How a lease ended, as `lease_history` tells it. `retried`: its action failed, and the job has another try."""


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """One job of a finish: how it was judged, and what the outcome's events need to know of it.

    `called_off`: nothing waits for the result any more. `tries` counts the tries that failed before this one.
    """

    job_id: int
    judgement: Judgement
    node_id: str = ""
    node_name: str = ""
    item_index: int | None = None
    attempt: int = 0
    leased_at: datetime | None = None
    worker_id: str = ""
    origin: str = ENGINE
    called_off: bool = False
    tries: int = 0
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Take:
    """What a worker would like to do next of the execution that it reports to: at most `count` jobs of these pools."""

    worker_id: str
    pools: Sequence[str]
    count: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease that a heartbeat has extended. `cancel_requested`: stop the action and report nothing of it."""

    job_id: int
    lease_until: datetime
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """A lease past its time, seen without a lock: to be judged again under the execution's lock."""

    job_id: int
    execution_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class ReapedLease:
    """What became of a lease that its holder did not end.

    Its job is queued again, dead (lost too often), or cancelled.
    """

    job_id: int
    status: Literal["queued", "dead", "cancelled"]
    node_id: str
    node_name: str
    item_index: int | None
    attempt: int
    lost_leases: int
    origin: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """One lease that a job has or had. `principal` is who asked for it over the API; empty for the platform's own."""

    attempt: int
    lease_token: str
    worker_id: str
    principal: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Who says that they hold a job: the principal always, the worker and the lease's token when they tell them."""

    principal: str
    worker_id: str | None = None
    lease_token: str | None = None


def find_claimed(records: Sequence[LeaseRecord], claim: Claim) -> LeaseRecord | None:
    """The one lease that a claim can speak of; None when there is none, or when it could be several.

    Clients of the original protocol tell no token: a job that one of them has had twice is nobody's any more, as its
    earlier holder cannot be told from its later one (rule R16).
    """
    meant = [
        record
        for record in records
        if record.principal == claim.principal
        and claim.worker_id in (None, record.worker_id)
        and claim.lease_token in (None, record.lease_token)
    ]
    return meant[0] if len(meant) == 1 else None
