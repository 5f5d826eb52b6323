"""Executes generated playbooks by the hundred thousand and demands every law of each.

    python -m tests.laws --executions 200000 --seed 1 --processes 2

Case number N of a seed is always the same: `--seed 1 --only N` runs that one again. A case that breaks a law is made
smaller and shown. Exit code 1 when there was one.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any, Final

from tests.support.generating import ALL, OLD, Case, Features, case_from
from tests.support.laws import LAWS, Law, Order
from tests.support.shrinking import shown, shrink

BATCH: Final = 100
"""Cases that a process runs at a time."""

PATIENCE: Final = 5.0
"""Seconds that a law may take over one case; all take a hundredth."""

PRESETS: Final = {"all": ALL, "old": OLD, "plain": replace(ALL, join_any=False, join_all=False, failures=False)}


@dataclass
class Tally:
    """What a batch came to."""

    executions: int = 0
    cases: int = 0
    by_law: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def case_of(seed: int, number: int, features: Features) -> tuple[Case, Order]:
    """Case number so-and-so of a seed, and an order of arrival."""
    chance = random.Random(f"{seed}:{number}")
    # Half of the cases have no join that makes the order of arrival count; a quarter has no failures.
    if number % 2 == 0:
        features = replace(features, join_any=False)
    if number % 4 == 0:
        features = replace(features, failures=False)
    case = case_from(chance, features)
    return case, [chance.randrange(1000) for _ in range(chance.randrange(1, 9))]


def run_batch(seed: int, numbers: list[int], features: Features, shrinking: bool) -> Tally:
    """Demand every law of these cases."""
    tally = Tally()
    for number in numbers:
        case, order = case_of(seed, number, features)
        tally.cases += 1
        for law in LAWS:
            if told := complaint(law, case, order, tally):
                small = smaller(law, case, order, told) if shrinking else case
                now = complaint(law, small, order, Tally())
                tally.violations.append(
                    f"--seed {seed} --only {number} breaks {law.__name__}\n  {told[:1000]}\n{shown(small)}\n"
                    f"  now: {now[:1000]}"
                )
                break
    return tally


def smaller(law: Law, case: Case, order: Order, told: str) -> Case:
    """The case without all that the law's complaint does not need."""
    return shrink(case, lambda one: complaint(law, one, order, Tally()).split(":")[:2] == told.split(":")[:2])


def complaint(law: Law, case: Case, order: Order, tally: Tally) -> str:
    """What the law says against the case, or nothing; a planning without end is stopped."""
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        ran = law(case, order)
    except Exception as error:
        # A crash of the planner breaks a law as well as a wrong answer does: it is shrunk and shown alike.
        return f"{type(error).__name__}: {' '.join(map(str, error.args))}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    tally.executions += ran
    tally.by_law[law.__name__] += ran
    return ""


def give_up(*signalled: Any) -> None:
    raise TimeoutError(f"no end within {PATIENCE} s")


def batches(numbers: Iterator[int]) -> Iterator[list[int]]:
    while batch := list(islice(numbers, BATCH)):
        yield batch


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.laws", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--executions", type=int, default=200_000, help="how many at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--features", choices=[*PRESETS], default="all")
    parser.add_argument("--without", nargs="*", default=[], choices=[each.name for each in fields(Features)])
    parser.add_argument("--only", type=int, help="one case by its number")
    parser.add_argument("--violations", type=int, default=10, help="stop after so many")
    parser.add_argument("--quick", action="store_true", help="show cases as they are, without making them smaller")
    given = parser.parse_args()
    without: dict[str, Any] = dict.fromkeys(given.without, False)
    features = replace(PRESETS[given.features], **without)
    if given.only is not None:
        case, order = case_of(given.seed, given.only, features)
        say(f"{shown(case)}\n  order {order}")
        tally = run_batch(given.seed, [given.only], features, not given.quick)
        say("\n".join(tally.violations) or "every law holds")
        return bool(tally.violations)
    return run_all(given, features)


def run_all(given: argparse.Namespace, features: Features) -> int:
    """Keep the processes busy until there are enough executions, or too many violations."""
    total, began, told = Tally(), time.monotonic(), 0.0
    numbers = batches(iter(range(10**9)))
    with ProcessPoolExecutor(given.processes) as pool:
        running: set[Future[Tally]] = set()
        while total.executions < given.executions and len(total.violations) < given.violations:
            while len(running) < given.processes * 2:
                running.add(pool.submit(run_batch, given.seed, next(numbers), features, not given.quick))
            done = next(as_completed(running))
            running.remove(done)
            tally = done.result()
            total.executions += tally.executions
            total.cases += tally.cases
            total.by_law += tally.by_law
            for violation in tally.violations:
                total.violations.append(violation)
                say(f"\n{violation}\n")
            seconds = time.monotonic() - began
            if seconds - told > 5:
                told = seconds
                say(f"{total.executions} executions of {total.cases} playbooks, {total.executions / seconds:.0f}/s")
        pool.shutdown(cancel_futures=True)
    seconds = time.monotonic() - began
    say(f"seed {given.seed}: {total.executions} executions of {total.cases} playbooks in {seconds:.0f} s")
    say(f"  by law: {dict(total.by_law)}")
    say(f"  violations: {len(total.violations)}")
    return bool(total.violations)


if __name__ == "__main__":
    sys.exit(main())
