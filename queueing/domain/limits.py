"""Concurrency limits as values: which jobs have a place at their keys. Knows no database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` leases at once among all jobs that have this key. A job has two at most."""

    key: str
    most: int


@dataclass(frozen=True, slots=True)
class LimitedJob:
    """A job that could be leased if its keys have room; the caller's transaction has locked its row."""

    id: int
    limits: tuple[Limit, ...]


def keys_of(jobs: Iterable[LimitedJob]) -> list[str]:
    """The keys of these jobs, each once."""
    return sorted({limit.key for job in jobs for limit in job.limits})


def judge_places(jobs: Sequence[LimitedJob], live: Mapping[str, int]) -> tuple[list[int], dict[int, str]]:
    """Give places to jobs in their order, where all of their keys have room beside the `live` leases.

    Returns: the ids of those with a place, and for each of the others the key that was full.
    """
    taken = Counter(live)
    placed: list[int] = []
    full: dict[int, str] = {}
    for job in jobs:
        key = next((limit.key for limit in job.limits if taken[limit.key] >= limit.most), None)
        if key is not None:
            full[job.id] = key
            continue
        placed.append(job.id)
        taken.update(limit.key for limit in job.limits)
    return placed, full


def find_beyond(jobs: Sequence[tuple[str, tuple[Limit, ...]]]) -> list[str | None]:
    """For each job of a batch, given as (pool, limits): the key that the jobs before it would fill; None if none.

    Pools are apart: what nobody takes in one must keep nobody else waiting.
    """
    before: Counter[tuple[str, str]] = Counter()
    beyond: list[str | None] = []
    for pool, limits in jobs:
        key = next((limit.key for limit in limits if before[pool, limit.key] >= limit.most), None)
        beyond.append(key)
        if key is None:
            before.update((pool, limit.key) for limit in limits)
    return beyond
