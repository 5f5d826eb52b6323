"""`make bench`: measure a platform of its own beside raw Celery and bare Postgres, and print one table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.bench import Extent, Peers, Scene, peers_of, scene
from benchmarks.measures import throughput
from benchmarks.platform import data_folder
from benchmarks.report import Row, machine, table, write_json

Measure = Callable[[Scene, Peers, Extent], Iterator[Row]]
WITH_PEERS: dict[str, Measure] = {
    "T1": throughput.measure_line,
    "T2": throughput.measure_long_lines,
    "T3": throughput.measure_wide,
    "T4": throughput.measure_many,
}
"""Measured one after the other on one platform, with the peers' workers beside it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for. Returns: the exit code, 0 also for missed targets unless told to check."""
    options = _parser().parse_args(arguments)
    only = [name.strip().upper() for name in options.only.split(",")] if options.only else list(WITH_PEERS)
    extent = Extent(options.repeat, options.short)
    facts = {"machine": machine(), "repeat": extent.repeat, "short": extent.short}
    rows = []
    for row in _measure(only, extent):
        rows.append(row)
    print(table(rows))
    if options.json:
        write_json(options.json, facts, rows)
    missed = [row for row in rows if row.met is False]
    return 1 if options.check and missed else 0


def _measure(only: Sequence[str], extent: Extent) -> Iterator[Row]:
    with data_folder() as data_dir:
        wanted = {name: measure for name, measure in WITH_PEERS.items() if name in only}
        if wanted:
            with scene(data_dir) as here, peers_of(here.platform) as peers:
                for name, measure in wanted.items():
                    yield from _told(name, measure(here, peers, extent))


def _told(name: str, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, and on stderr that they are being measured."""
    begun = time.monotonic()
    print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
    yield from rows
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="T1,T3", help="these alone")
    parser.add_argument("--short", action="store_true", help="small workloads: quick, and good for trends alone")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="samples of each (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, with every sample")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
