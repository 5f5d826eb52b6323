"""T6 and T7: how much of the processor reaches the actions, and what an idle platform holds in memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator

from benchmarks import playbooks
from benchmarks.bench import Extent, Peers, Scene
from benchmarks.measures.throughput import per_second
from benchmarks.platform import WORKERS
from benchmarks.processes import SUPERVISOR, resident_mb
from benchmarks.report import Row, Target
from benchmarks.sampling import Series, interleave

ITEMS = 10
SETTLE_SECONDS = 1.0


def burn(seconds: float) -> int:
    """Use the processor for so long: the same as the measured action does."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return 1


def measure_busy(here: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """T6: items that use the processor, against a pool of processes that does nothing but them."""
    seconds = 0.1 if extent.short else 0.5
    path = here.client.register(playbooks.burning(ITEMS, seconds))
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:

        def bare() -> float:
            begun = time.perf_counter()
            pool.map(burn, [seconds] * ITEMS, chunksize=1)
            return time.perf_counter() - begun

        bare()
        here.play(path)
        ways = {"platform": lambda: here.play(path).seconds, "process pool": bare}
        found = interleave(extent.repeat, {name: per_second(way, ITEMS) for name, way in ways.items()}, "items/s")
    workload = f"{ITEMS} items of {seconds:g} s on {WORKERS} processes"
    yield Row("T6", workload, found["platform"], found["process pool"], Target(">=", 0.95))


def measure_memory(here: Scene, extent: Extent) -> Iterator[Row]:
    """T7: what everything holds together when it has worked a little and has nothing to do."""
    path = here.client.register(playbooks.wide())
    here.play(path, items=50)
    series: dict[str, Series] = {}
    for _ in range(extent.repeat):
        # What an idle platform holds is asked for, and there is no event of its having come to rest.
        time.sleep(SETTLE_SECONDS)
        for name, megabytes in resident_mb(here.platform).items():
            series.setdefault(name, Series(name, "MB")).samples.append(megabytes)
    for name, one in series.items():
        yield Row("T7", f"idle memory, {name}", one)
    # As the target is put: the supervisor of one machine is not part of an installation on several.
    fleet = [one.samples for name, one in series.items() if name != SUPERVISOR]
    together = Series("platform", "MB", [sum(each) for each in zip(*fleet, strict=True)])
    yield Row("T7", "idle memory without the supervisor", together, target=Target("<=", 400))
    with_it = [mine + other for mine, other in zip(together.samples, series[SUPERVISOR].samples, strict=True)]
    yield Row("T7", "idle memory, all", Series("platform", "MB", with_it))
