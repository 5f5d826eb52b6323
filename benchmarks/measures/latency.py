"""T5 and T8: how long somebody waits for the first action, on an idle platform and on one that has to start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import playbooks
from benchmarks.bench import Extent, Peers, Scene, scene
from benchmarks.report import Row, Target
from benchmarks.sampling import Series

PAUSE_SECONDS = 0.05
"""Between two requests everything is idle again, and what runs on a clock is met at every point of its round."""


def measure_latency(here: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """T5: from a request to the start of its first action; the action tells the time at which it runs."""
    path = here.client.register(playbooks.linear(1, playbooks.CLOCK))
    here.play(path)
    ours, answered = Series("platform", "ms"), Series("the request's answer", "ms")
    sent, returned = Series("Celery, to the task's start", "ms"), Series("Celery round trip", "ms")
    for number in range(max(extent.size(200, 20), extent.repeat)):
        asked_at = time.time()
        execution = here.client.start(path)
        answered.samples.append((time.time() - asked_at) * 1000)
        # Nobody looks while it happens.
        time.sleep(PAUSE_SECONDS)
        here.database.wait([execution])
        ours.samples.append((_told_time(here, execution) - asked_at) * 1000)
        time.sleep(PAUSE_SECONDS + (number % 10) * PAUSE_SECONDS / 10)
        start, trip = peers.celery.round_trip()
        sent.samples.append(start * 1000)
        returned.samples.append(trip * 1000)
        time.sleep(PAUSE_SECONDS)
    # Both against the middle of Celery's: its own worst says more about the machine.
    yield Row("T5", "request to first action, p50", ours, returned, Target("<=", 1.5))
    yield Row("T5", "request to first action, p99", ours, returned, Target("<=", 4), figure=ours.percentile(99))
    yield Row("T5", "request to first action, p50", ours, sent)
    yield Row("T5", "request to its answer, p50", answered)
    worst = Series(returned.name, "ms", returned.samples)
    yield Row("T5", "Celery round trip, p99", worst, figure=worst.percentile(99))


def measure_starts(data_dir: Path, extent: Extent) -> Iterator[Row]:
    """T8: `standalone` on a data folder that is there, until it is ready and until its first execution is done."""
    ready, done = Series("platform", "s"), Series("platform", "s")
    with scene(data_dir) as here:
        path = here.client.register(playbooks.linear(1))
    for _ in range(extent.repeat):
        begun = time.time()
        with scene(data_dir) as here:
            ready.samples.append(time.time() - begun)
            execution = here.client.start(path)
            [ended] = here.database.wait([execution])
            done.samples.append(ended.ended_at - begun)
    yield Row("T8", "start to ready", ready)
    yield Row("T8", "start to first execution done", done, target=Target("<=", 6))


def _told_time(here: Scene, execution: int) -> float:
    """What the one action of this execution gave."""
    statement = "SELECT result FROM event_log WHERE execution_id = %s AND event_type = 'action_completed'"
    return float(here.database.one(statement, execution))
