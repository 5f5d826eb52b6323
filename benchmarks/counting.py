"""What work costs in things that can be counted: transactions, flushes, messages, events read, processor time.

Counts do not depend on how busy the machine is, so laws of growth are told by them. What an idle platform does anyway
is measured before and taken off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import redis

from benchmarks.bench import Scene
from benchmarks.database import NotFinished
from benchmarks.processes import processor_seconds

STATISTICS_SECONDS: Final = 40
LOOK_SECONDS: Final = 0.2

READ_AND_WRITTEN: Final = """
    SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint,
           coalesce(sum(n_tup_ins), 0)::bigint
    FROM pg_stat_user_tables WHERE starts_with(relname, 'event_log')
"""


@dataclass(slots=True)
class Counts:
    """What had been done at one moment, or between two."""

    seconds: float
    transactions: float
    flushes: float
    wal_kb: float
    messages: float
    events: float
    events_read: float

    def less(self, other: Counts, times: float = 1) -> Counts:
        """What is left without so many times the other."""
        return Counts(
            self.seconds - other.seconds * times,
            self.transactions - other.transactions * times,
            self.flushes - other.flushes * times,
            self.wal_kb - other.wal_kb * times,
            self.messages - other.messages * times,
            self.events - other.events * times,
            self.events_read - other.events_read * times,
        )


@dataclass(slots=True)
class Spent:
    """What a piece of work has cost. `processor` is seconds by part of the platform, `seconds` those of the clock."""

    counts: Counts
    processor: dict[str, float]
    seconds: float


class Counter:
    """Counts on one platform."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._redis = redis.Redis(unix_socket_path=scene.platform.services.redis_url.removeprefix("redis+socket://"))
        self._idle: Spent | None = None

    def close(self) -> None:
        """Let go of Redis."""
        self._redis.close()

    def watch_idle(self, seconds: float) -> None:
        """Learn what the platform does while nothing is asked of it."""
        self._idle = self._watch(lambda: time.sleep(seconds))

    def during(self, work: Callable[[], object]) -> Spent:
        """What a piece of work costs, without what would have been done anyway."""
        idle = self._idle
        assert idle is not None, "watch_idle comes first"
        spent = self._watch(work)
        spent.counts = spent.counts.less(idle.counts, spent.counts.seconds / idle.counts.seconds)
        share = spent.seconds / idle.seconds
        for name in spent.processor:
            spent.processor[name] -= idle.processor.get(name, 0) * share
        return spent

    def _watch(self, work: Callable[[], object]) -> Spent:
        before = self._look()
        processor_before, begun = processor_seconds(self._scene.platform), time.monotonic()
        work()
        # At once: the statistics take their time, and what is idle meanwhile is not the work's.
        seconds, processor = time.monotonic() - begun, processor_seconds(self._scene.platform)
        used = {name: at_end - processor_before.get(name, 0) for name, at_end in processor.items()}
        return Spent(self._look().less(before), used, seconds)

    def _look(self) -> Counts:
        database = self._scene.database
        self._wait_for_statistics()
        transactions = database.one("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        flushes = database.one("SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_stat_io WHERE object = 'wal'")
        written = database.one("SELECT (pg_current_wal_insert_lsn() - '0/0')::float / 1024")
        [(read, events)] = database.rows(READ_AND_WRITTEN)
        own = database.statements
        return Counts(time.monotonic(), transactions - own, flushes, written, self._messages(), events, read)

    def _messages(self) -> int:
        """Messages that were put into a queue; publishing to one is Redis' LPUSH."""
        calls = self._redis.info("commandstats")
        return int(calls.get("cmdstat_lpush", {}).get("calls", 0))

    def _wait_for_statistics(self) -> None:
        """Until the sessions have handed in what they counted, which an idle one does after ten seconds.

        Whoever wrote the last event has done so when as many events are counted as there are.
        """
        database, deadline = self._scene.database, time.monotonic() + STATISTICS_SECONDS
        there = database.one("SELECT sum(last_seq)::bigint FROM execution") or 0
        while True:
            # Our own count is handed in at once, so that it can be taken off.
            database.run("SELECT pg_stat_force_next_flush()")
            [(_, counted)] = database.rows(READ_AND_WRITTEN)
            if counted >= there:
                return
            if time.monotonic() > deadline:
                raise NotFinished("the sessions did not hand in their statistics")
            time.sleep(LOOK_SECONDS)
