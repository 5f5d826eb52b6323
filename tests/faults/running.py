"""The parts of the fault suite by their names: each takes the command line's options and says if it is finished."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Final

from tests.faults import hands, tested
from tests.faults import mutants as broken_on_purpose
from tests.faults import points as crash_points
from tests.faults import release as re_leases
from tests.faults import soak as rain
from tests.faults.progress import Broken, Progress, tell

KILLS_OF_SOAK: Final = 1000
KILLS_OF_RELEASE: Final = 30


def points(options: Namespace) -> bool:
    """Crash at every call of the database."""
    ways = crash_points.ways_named(options.way)
    if options.at:
        crash_points.run_one(ways[0], options.at)
        return True
    if options.hands:
        tell(f"points: {hands.run_all(crash_points.Points([hands.UNEVEN]))} forced deaths of full hands, 0 violations")
        return True
    progress = Progress.load(options.state, "points", options.minutes)
    finished = crash_points.run(progress, ways, options.seed, options.sample)
    tell(
        f"points: {progress.of('points')} crash points of {len(ways)} ways, {progress.of('killed')} of them reached "
        "and killed, 0 violations"
    )
    if finished and not (options.way or options.sample):
        tell(f"points: {hands.run_all(crash_points.Points([hands.UNEVEN]))} forced deaths of full hands, 0 violations")
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


def release(options: Namespace) -> bool:
    """The time from a holder's death to the next lease."""
    progress = Progress.load(options.state, "release", options.minutes)
    finished = re_leases.run(progress, options.kills or KILLS_OF_RELEASE)
    if finished:
        progress.complete()
    return finished


def schedules(options: Namespace) -> bool:
    """Every fault that is forced, one by one: the tests of pytest, the long ones as well."""
    return _tests("schedules", options, tested.SCHEDULES)


def degrade(options: Namespace) -> bool:
    """Servers that are away, hang, or are full; poison jobs and huge outputs; programs replaced under load."""
    return _tests("degrade", options, tested.DEGRADE)


def _tests(part: str, options: Namespace, files: Sequence[str]) -> bool:
    progress = Progress.load(options.state, part, options.minutes)
    finished = tested.run(part, progress, files)
    if finished:
        progress.complete()
    return finished


def mutants(options: Namespace) -> bool:
    """Do the tests bite? Each mutant must be killed by its named test."""
    progress = Progress.load(options.state, "mutants", options.minutes)
    killed: list[str] = progress.state.setdefault("killed", [])
    if not broken_on_purpose.are_passed_by_the_code(broken_on_purpose.MUTANTS):
        raise Broken("a named test fails on the code as it is; see which with: make mutants")
    for mutant in broken_on_purpose.MUTANTS:
        if mutant.name in killed:
            continue
        # What is begun is given its time to the end.
        if progress.left_seconds < broken_on_purpose.TEST_SECONDS:
            return False
        if not broken_on_purpose.is_killed(mutant, 1):
            raise Broken(f"{mutant.name} survives {mutant.test}; repeat it with: make mutants ARGS={mutant.name}")
        killed.append(mutant.name)
        progress.save()
    for thing, names in broken_on_purpose.NAMED.items():
        tell(f"mutants: {thing}: {', '.join(names)}")
    tell(f"mutants: {len(killed)} mutants, 0 survived")
    progress.complete()
    return True
