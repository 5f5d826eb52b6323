"""The parts of the fault suite by their names: each takes the command line's options and says if it is finished."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from tests.faults import points as crash_points
from tests.faults import soak as rain
from tests.faults.progress import Progress, tell

KILLS_OF_SOAK: Final = 1000


def points(options: Namespace) -> bool:
    """Crash at every call of the database."""
    ways = crash_points.ways_named(options.way)
    if options.at:
        crash_points.run_one(ways[0], options.at)
        return True
    progress = Progress.load(options.state, "points", options.minutes)
    finished = crash_points.run(progress, ways, options.seed, options.sample)
    tell(
        f"points: {progress.of('points')} crash points of {len(ways)} ways, {progress.of('killed')} of them reached "
        "and killed, 0 violations"
    )
    if finished:
        progress.complete()
    return finished


def soak(options: Namespace) -> bool:
    """Faults at random under a steady load."""
    kills = options.kills or KILLS_OF_SOAK
    progress = Progress.load(options.state, "soak", options.minutes)
    finished = rain.run(progress, options.seed, kills, options.jobs)
    for name, count in sorted(progress.state["faults"].items()):
        tell(f"soak:   {count} x {name}")
    of = progress.of
    tell(
        f"soak: {of('kills')} kills (of {kills}), {of('jobs')} jobs (of {options.jobs}) in {of('runs')} runs of "
        f"{of('seconds') / 60:.0f} minutes together: {of('acknowledged')} acknowledged starts, {of('lost')} lost, "
        f"{of('twice')} accepted twice, {of('stuck')} stuck, {of('dead')} ended with lease_exhausted, "
        f"{of('lost_leases')} leases lost, {of('unanswered_starts')} starts without an answer, verify 0 violations"
    )
    if finished:
        progress.complete()
    return finished
