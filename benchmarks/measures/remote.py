"""The worker protocol over REST: one client that leases a job and hands in its result, again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks import playbooks
from benchmarks.bench import Extent, Scene
from benchmarks.measures.throughput import per_second
from benchmarks.peers.postgres import PostgresPeer
from benchmarks.report import Row
from benchmarks.sampling import interleave


def measure_remote(here: Scene, peer: PostgresPeer, extent: Extent) -> Iterator[Row]:
    """Jobs of a loop on a platform without workers, against the same writes by bare SQL."""
    items = extent.size(300, 50)
    path = here.client.register(playbooks.wide())

    def ours() -> float:
        execution = here.client.start(path, items=items)
        begun = time.perf_counter()
        for _ in range(items):
            job = here.client.post("queue/lease", {"worker_id": "bench", "lease_seconds": 60})["job"]
            here.client.post(f"queue/{job['id']}/complete", {"lease_token": job["lease_token"], "result": 1})
        seconds = time.perf_counter() - begun
        here.database.wait([execution])
        return seconds

    found = interleave(
        extent.repeat,
        {
            "platform": per_second(ours, items),
            "bare SQL": per_second(partial(peer.leases, items), items),
        },
        "jobs/s",
    )
    yield Row("REST", "lease and complete, one client", found["platform"], found["bare SQL"])
