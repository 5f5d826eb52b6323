"""HTTP: an http step, and its action alone, beside the bare call of `requests` to the same local server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event

from benchmarks import playbooks
from benchmarks.bench import Extent, Scene
from benchmarks.measures.throughput import MILLISECONDS, per_step
from benchmarks.peers.web import calls, web_server
from benchmarks.report import Row
from benchmarks.sampling import interleave
from executors.actions.http import HttpAction
from executors.contract import ActionRequest, Credential
from executors.errors import CredentialNotFound
from executors.running import Lent, run_action

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
                "action": per_step(partial(_actions, action, url, count), count),
                "requests": per_step(partial(calls, url, count), count),
            },
            MILLISECONDS,
        )
    yield Row("HTTP", f"line of {length} http steps", found["platform"], found["requests"])
    yield Row("HTTP", "the http action alone", found["action"], found["requests"])


def _actions(action: HttpAction, url: str, count: int) -> float:
    """Seconds of so many runs of the action, as a worker runs it."""

    def find(name: str) -> Credential:
        raise CredentialNotFound(name)

    request = ActionRequest("http", {"url": url}, {}, "1", "1:ask", "ask", 1, "1:ask", 10)
    lent = Lent(Path(), Event(), find)
    begun = time.perf_counter()
    for _ in range(count):
        outcome = run_action({"http": action}, request, lent)
        assert outcome.status == "success", outcome
    return time.perf_counter() - begun
