"""HTTP: an http step, and its action alone, beside the bare call of `requests` to the same local server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

from benchmarks import playbooks
from benchmarks.bench import Extent, Scene
from benchmarks.measures.alone import seconds_alone
from benchmarks.measures.throughput import MILLISECONDS, per_step
from benchmarks.peers.web import calls, web_server
from benchmarks.report import Row
from benchmarks.sampling import interleave
from executors.actions.http import HttpAction

NETWORKS = ("127.0.0.0/8",)


def measure_http(here: Scene, extent: Extent) -> Iterator[Row]:
    """A line of http steps, and the action in this process, against as many calls on one kept connection."""
    length, count = extent.size(40, 10), extent.size(400, 50)
    with web_server() as url, closing(HttpAction(NETWORKS)) as action:
        path = here.client.register(playbooks.asking(length, url))
        here.play(path)
        found = interleave(
            extent.repeat,
            {
                "platform": per_step(lambda: here.play(path).seconds, length),
                "action": per_step(partial(seconds_alone, action, "http", {"url": url}, count), count),
                "requests": per_step(partial(calls, url, count), count),
            },
            MILLISECONDS,
        )
    yield Row("HTTP", f"line of {length} http steps", found["platform"], found["requests"])
    yield Row("HTTP", "the http action alone", found["action"], found["requests"])
