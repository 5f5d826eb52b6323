"""Which measures there are, and on what kind of platform each is taken."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.bench import Extent, Peers, Scene, peers_of, scene
from benchmarks.measures import (
    broker,
    bulk,
    costs,
    databases,
    history,
    http,
    isolation,
    latency,
    remote,
    resources,
    throughput,
)
from benchmarks.peers.postgres import PostgresPeer
from benchmarks.platform import data_folder
from benchmarks.report import Row

ALONE: Final[dict[str, Callable[[Scene, Extent], Iterator[Row]]]] = {
    "T7": resources.measure_memory,
    "G": costs.measure_growth,
    "COUNTS": costs.measure_costs,
    "BULK": bulk.measure_bulk,
}
"""On a platform with nothing beside it; memory first, as what comes later fills Postgres' buffers."""
BESIDE_PEERS: Final[dict[str, Callable[[Scene, Peers, Extent], Iterator[Row]]]] = {
    "T1": throughput.measure_line,
    "T2": throughput.measure_long_lines,
    "T3": throughput.measure_wide,
    "T4": throughput.measure_many,
    "T5": latency.measure_latency,
    "T6": resources.measure_busy,
    "POSTGRES": databases.measure_postgres,
}
"""On one platform with the peers' workers beside it, which are idle while the platform is not."""
NAMES: Final = (*ALONE, "T8", *BESIDE_PEERS, "T9", "REST", "HTTP", "SANDBOX", "T10", "T11")
"""Everything, in the order in which it is measured."""


def measure(only: Collection[str], extent: Extent) -> Iterator[Row]:
    """Take the measures of these names, on data folders that are removed afterwards."""
    with data_folder() as data_dir:
        yield from _alone(data_dir, [name for name in ALONE if name in only], extent)
        if "T8" in only:
            yield from _timed("T8", latency.measure_starts(data_dir, extent))
        yield from _beside_peers(data_dir, [name for name in BESIDE_PEERS if name in only], extent)
        if "T9" in only:
            with scene(data_dir, NOETL_EVALUATE_INLINE="0") as here, peers_of(here.platform) as peers:
                yield from _timed("T9", broker.measure_broker(here, peers, extent))
        if "REST" in only:
            with scene(data_dir, workers=0) as here, closing(PostgresPeer(here.platform)) as peer:
                yield from _timed("REST", remote.measure_remote(here, peer, extent))
        if "HTTP" in only:
            with scene(data_dir, NOETL_HTTP_ALLOWED_NETWORKS=",".join(http.NETWORKS)) as here:
                yield from _timed("HTTP", http.measure_http(here, extent))
    if "SANDBOX" in only:
        yield from _timed("SANDBOX", isolation.measure_isolation(extent))
    if "T10" in only:
        yield from _timed("T10", history.measure_planning(extent))
    if "T11" in only:
        with data_folder() as one, data_folder() as other, scene(one) as empty, scene(other) as full:
            yield from _timed("T11", history.measure_full(empty, full, extent))


def _alone(data_dir: Path, names: list[str], extent: Extent) -> Iterator[Row]:
    if names:
        with scene(data_dir) as here:
            for name in names:
                yield from _timed(name, ALONE[name](here, extent))


def _beside_peers(data_dir: Path, names: list[str], extent: Extent) -> Iterator[Row]:
    if names:
        with scene(data_dir) as here, peers_of(here.platform) as peers:
            for name in names:
                yield from _timed(name, BESIDE_PEERS[name](here, peers, extent))


def _timed(name: str, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, and on stderr that they are being measured."""
    begun = time.monotonic()
    print(f"{name} ...", file=sys.stderr)
    yield from rows
    print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
