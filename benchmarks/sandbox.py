"""What a python step costs beyond its own work, at each level of isolation, beside a bare call and a bare fork.

Run with `make bench-sandbox`; `make bench` has the medians in its table. All are measured in one run, in turns, so that
a busy machine is busy for all of them; only ratios within a run count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Final

from executors.sandbox import bubblewrap
from executors.sandbox.host import Isolation, Sandbox
from executors.sandbox.turns import MOST_JOBS

ROUNDS = 5
BARE_CALL: Final = "bare call"
BARE_FORK: Final = "bare fork"
TURN: Final = "turn"
JOB = {"code": "def main(n): return n + 1", "inputs": {"n": 1}, "context": {}}


def bare_call() -> None:
    """What `main` does, in this process."""
    (lambda n: n + 1)(1)


def bare_fork() -> None:
    """A child of this process that ends at once."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def step(sandbox: Sandbox, isolation: Isolation) -> Callable[[], None]:
    """A step of one execution."""

    def run() -> None:
        result = sandbox.run(JOB, timeout_seconds=60, turn="bench", isolation=isolation)
        assert result.value == 2, result

    return run


def first_of_turn(sandbox: Sandbox) -> Callable[[], None]:
    """A turn of a single step: the child's end is part of it."""
    run = step(sandbox, Isolation.TURN)

    def turn() -> None:
        run()
        sandbox.end_turn()

    return turn


def measure(run: Callable[[], None], times: int) -> list[float]:
    """Milliseconds of each of so many calls."""
    taken = []
    for _ in range(times):
        begun_at = time.perf_counter()
        run()
        taken.append((time.perf_counter() - begun_at) * 1e3)
    return taken


def ways(sandbox: Sandbox) -> dict[str, tuple[Callable[[], None], int]]:
    """What is measured: what runs it once, and how often it is to run in a round. Each has been run."""
    found: dict[str, tuple[Callable[[], None], int]] = {
        BARE_CALL: (bare_call, 200),
        BARE_FORK: (bare_fork, 40),
        TURN: (step(sandbox, Isolation.TURN), 4 * MOST_JOBS),
        "turn of one step": (first_of_turn(sandbox), 40),
        "job": (step(sandbox, Isolation.JOB), 40),
    }
    if bubblewrap.find():
        found["bwrap"] = step(sandbox, Isolation.BWRAP), 10
    else:
        print("bwrap is not installed: left out", file=sys.stderr)
    for run, _ in found.values():
        run()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table; with `--json` every sample, by level and round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--part", type=int, default=1, metavar="N", help="call each only a N-th as often")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with closing(Sandbox("python")) as sandbox:
        found = ways(sandbox)
        taken: dict[str, list[list[float]]] = {name: [] for name in found}
        for _ in range(options.rounds):
            for name, (run, times) in found.items():
                taken[name].append(measure(run, times // options.part))
    if options.json:
        print(json.dumps(taken))
    else:
        _print_table({name: [value for values in rounds for value in values] for name, rounds in taken.items()})


def _print_table(taken: Mapping[str, Sequence[float]]) -> None:
    print(f"{'ms per step':<18}{'median':>9}{'p10':>9}{'p90':>9}{'mean':>9}{'n':>7}")
    for name, values in taken.items():
        tenths = statistics.quantiles(values, n=10)
        told = (statistics.median(values), tenths[0], tenths[-1], statistics.fmean(values))
        print(f"{name:<18}" + "".join(f"{value:9.3f}" for value in told) + f"{len(values):7}")


if __name__ == "__main__":
    main()
