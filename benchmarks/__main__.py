"""`make bench`: measure a platform of its own beside raw Celery and bare Postgres, and print one table."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import suite
from benchmarks.bench import Extent
from benchmarks.report import Row, machine, table, write_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for. Returns: the exit code, 0 also for missed targets unless told to check."""
    options = _parser().parse_args(arguments)
    extent = Extent(options.repeat, options.short)
    facts = {"machine": machine(), "repeat": extent.repeat, "short": extent.short}
    rows: list[Row] = []
    try:
        rows.extend(suite.measure(options.only, extent))
    finally:
        # Also when it is interrupted: some of it takes long.
        print(table(rows))
        if options.json:
            write_json(options.json, facts, rows)
    missed = [row for row in rows if row.met is False]
    return 1 if options.check and missed else 0


def _names(text: str) -> list[str]:
    names = [name.strip().upper() for name in text.split(",")]
    if unknown := sorted(set(names) - set(suite.NAMES)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(suite.NAMES)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ",".join(suite.NAMES)
    parser.add_argument("--only", type=_names, default=suite.NAMES, metavar="T1,T3", help=f"some of {names}")
    parser.add_argument("--short", action="store_true", help="small workloads: quick, and good for trends alone")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="samples of each (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, with every sample")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser


if __name__ == "__main__":
    # Told to end, it ends what it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
