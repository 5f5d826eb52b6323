"""The fault suite, part by part: `python -m tests.faults PART`, or `make faults PART=...`; all in turn without a PART.

Each part prints its counts, stops within `--minutes`, and goes on where it was stopped when it is called again: what
has been done is kept in `.faults/`. Exit code 1: something does not hold; 3: not finished in this time, call it again.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Final

PARTS: Final = ("schedules", "points", "soak", "release", "degrade", "mutants")
MINUTES: Final = 28.0
UNFINISHED: Final = 3


def main() -> int:
    """Run the chosen parts. Returns: the exit code."""
    options = _options()
    # A data folder of its own, which is removed at the end: a test that starts this has one that is not to be.
    os.environ.pop("NOETL_TEST_DATA_DIR", None)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    # What the platform logs about the faults is expected; what matters is told by the parts.
    logging.disable(logging.CRITICAL)
    from tests.settings import FOLDER

    try:
        return _run(options)
    finally:
        from noetl_site import embedded

        embedded.release()
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def _run(options: argparse.Namespace) -> int:
    from tests.faults import running
    from tests.faults.progress import Broken, Progress, tell

    code = 0
    whole = Progress.load(options.state, "whole", options.minutes)
    finished: list[str] = whole.state.setdefault("finished", [])
    for part in [options.part] if options.part else PARTS:
        if not options.part and part in finished:
            tell(f"== {part}: finished before")
            continue
        tell(f"== {part}")
        try:
            if getattr(running, part)(options):
                finished.append(part)
            else:
                tell(f"{part}: not finished in this time; call it again to go on (state in {options.state})")
                code = code or UNFINISHED
        except Broken as problem:
            tell(f"{part}: VIOLATION: {problem}")
            code = 1
        if not options.part:
            whole.save()
    if not options.part and not code:
        whole.complete()
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"per part (default {MINUTES:g})")
    parser.add_argument("--seed", type=int, default=1, help="of the soak's dice and of samples (default 1)")
    parser.add_argument("--state", type=Path, default=Path(".faults"), help="where the state is kept (default .faults)")
    parser.add_argument("--way", action="append", default=[], help="points: a shape, or SHAPE/inline, SHAPE/broker")
    parser.add_argument("--sample", type=int, help="points: so many of each way instead of all")
    parser.add_argument("--hands", action="store_true", help="points: only the deaths of workers with full hands")
    parser.add_argument("--at", help="points: one point of one way, before:N or after:N")
    parser.add_argument("--kills", type=int, help="soak: until so many faults (default 1000); release: kills (30)")
    parser.add_argument("--jobs", type=int, default=30_000, help="soak: and until so many jobs (default 30000)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
