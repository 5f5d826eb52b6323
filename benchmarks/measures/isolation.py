"""What a python step costs beyond its own work at each level of isolation, without a platform around it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Extent
from benchmarks.measures.throughput import MILLISECONDS
from benchmarks.platform import ROOT
from benchmarks.report import Row, Target
from benchmarks.sampling import Series
from benchmarks.sandbox import BARE_CALL, BARE_FORK, TURN

BEYOND_MILLISECONDS = 0.5
"""What a step within a turn may cost more than a call in the same process."""


def measure_isolation(extent: Extent) -> Iterator[Row]:
    """Each level against a bare fork, and a step of a turn without what a bare call takes. A sample is a median.

    In a process of its own: a fork of this one, which has loaded more, costs more.
    """
    words = ["--json", "--rounds", str(extent.repeat), "--part", str(extent.size(1, 10))]
    command = [sys.executable, "-m", "benchmarks.sandbox", *words]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = {
        name: Series(name, MILLISECONDS, [statistics.median(values) for values in rounds])
        for name, rounds in json.loads(told).items()
    }
    call, fork = found.pop(BARE_CALL), found.pop(BARE_FORK)
    extra = [turn - bare for turn, bare in zip(found[TURN].samples, call.samples, strict=True)]
    beyond = Series(TURN, MILLISECONDS, extra)
    yield Row("SANDBOX", f"{TURN}, beyond a bare call", beyond, target=Target("<=", BEYOND_MILLISECONDS))
    for name, level in found.items():
        yield Row("SANDBOX", name, level, fork)
