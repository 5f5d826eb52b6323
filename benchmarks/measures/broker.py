"""T9: the broker evaluator, a message per evaluation, against raw Celery doing the same without keeping anything.

The platform is one with `NOETL_EVALUATE_INLINE=0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.bench import Extent, Peers, Scene
from benchmarks.measures.throughput import LINE, MILLISECONDS, per_step, play_line
from benchmarks.report import Row, Target
from benchmarks.sampling import interleave


def measure_broker(here: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """A line of 40 steps."""
    line = play_line(here, LINE)
    line()
    found = interleave(
        extent.repeat,
        {
            "platform": per_step(line, LINE),
            "Celery, two tasks a step": per_step(partial(peers.celery.two_tasks, LINE), LINE),
            "Celery, two tasks a step, no ack": per_step(partial(peers.celery_noack.two_tasks, LINE), LINE),
        },
        MILLISECONDS,
    )
    mine = found.pop("platform")
    for name, peer in found.items():
        target = None if name.endswith("no ack") else Target("<=", 1.3)
        yield Row("T9", f"line of {LINE} through the broker", mine, peer, target)
