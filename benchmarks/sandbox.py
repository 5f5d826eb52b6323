"""What a python step costs beyond its own work, at each level of isolation, beside a bare call and a bare fork.

Run with `make bench-sandbox`. All are measured in one run, in turns, so that a busy machine is busy for all of them;
only ratios within a run count.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

from executors.sandbox import bubblewrap
from executors.sandbox.host import Isolation, Sandbox
from executors.sandbox.turns import MOST_JOBS

ROUNDS = 5
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


def main() -> None:
    """Measure and print the table."""
    sandbox = Sandbox("python")
    rows: list[tuple[str, Callable[[], None], int]] = [
        ("bare call", bare_call, 200),
        ("bare fork", bare_fork, 40),
        ("turn", step(sandbox, Isolation.TURN), 4 * MOST_JOBS),
        ("turn of one step", first_of_turn(sandbox), 40),
        ("job", step(sandbox, Isolation.JOB), 40),
    ]
    if bubblewrap.find():
        rows.append(("bwrap", step(sandbox, Isolation.BWRAP), 10))
    else:
        print("bwrap is not installed: left out", file=sys.stderr)
    taken: dict[str, list[float]] = {name: [] for name, _, _ in rows}
    try:
        for _, run, _ in rows:
            run()
        for _ in range(ROUNDS):
            for name, run, times in rows:
                taken[name] += measure(run, times)
    finally:
        sandbox.close()
    print(f"{'ms per step':<18}{'median':>9}{'p10':>9}{'p90':>9}{'mean':>9}{'n':>7}")
    for name, values in taken.items():
        tenths = statistics.quantiles(values, n=10)
        told = (statistics.median(values), tenths[0], tenths[-1], statistics.fmean(values))
        print(f"{name:<18}" + "".join(f"{value:9.3f}" for value in told) + f"{len(values):7}")


if __name__ == "__main__":
    main()
