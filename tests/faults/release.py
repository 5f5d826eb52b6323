"""How long a dead worker's job waits: holders of leases of 20 s are killed, the next lease of their job is awaited."""

from __future__ import annotations

import math
import threading
import time
from functools import partial
from typing import Final

import psutil

from tests.faults.faulty import Faulty, keep_logs
from tests.faults.platforms import faulty_platform
from tests.faults.progress import Broken, Progress, tell
from tests.faults.shapes import HEAD
from tests.support.inspection import wait_for
from tests.support.platform import temporary_data_dir

LEASE: Final = 20.0
P99: Final = 1.2 * LEASE
MOST: Final = 1.5 * LEASE
AT_ONCE: Final = 6
NAP_SECONDS: Final = 300

NAP: Final = (
    HEAD
    + f"""
name: nap
path: faults/nap
workflow:
  - {{step: start, next: nap}}
  - step: nap
    type: python
    code: |
      import time
      def main():
          if context["attempt"] == 1:
              time.sleep({NAP_SECONDS})
          return context["attempt"]
    next: end
  - {{step: end, result: "{{{{ nap.data }}}}"}}
"""
)


def run(progress: Progress, kills: int) -> bool:
    """Kill so many holders, some at once. Returns: whether all were killed in time. Raises: `Broken`."""
    seconds: list[float] = progress.state.setdefault("seconds", [])
    with (
        temporary_data_dir() as data_dir,
        faulty_platform(
            data_dir, texts=[NAP], arguments=["--workers", str(AT_ONCE)], NOETL_LEASE_SECONDS=str(LEASE)
        ) as faulty,
    ):
        while len(seconds) < kills and not progress.is_time_up:
            try:
                taken = _kill_some(faulty, min(AT_ONCE, kills - len(seconds)))
            finally:
                keep_logs(faulty, progress.file.parent)
            seconds += taken
            progress.save()
            tell(f"release: {len(seconds)} kills; leased again after {', '.join(f'{each:.1f}' for each in taken)} s")
        # Everything that was killed here has ended by its second try.
        assert faulty.query("SELECT DISTINCT status, result FROM execution") == [("completed", 2)]
        faulty.check_invariants()
    if len(seconds) < kills:
        return False
    ordered = sorted(seconds)
    # By the nearest rank: of 30 it is the greatest.
    p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
    told = (
        f"{len(ordered)} kills at a lease of {LEASE:g} s: median {ordered[len(ordered) // 2]:.1f} s, p99 {p99:.1f} s "
        f"(at most {P99:g}), max {ordered[-1]:.1f} s (at most {MOST:g})"
    )
    if p99 > P99 or ordered[-1] > MOST:
        raise Broken(told)
    tell(f"release: {told}")
    return True


def _kill_some(faulty: Faulty, count: int) -> list[float]:
    """Kill the holders of so many jobs, a bit apart. Returns: seconds from each kill to the next lease of its job."""
    ids = [faulty.starter.start("faults/nap") for _ in range(count)]
    killed_at: dict[str, float] = {}
    for place, execution_id in enumerate(ids):
        holder = faulty.holder_of(execution_id)
        # A part of a heartbeat's interval later each, so that leases are met at any age.
        threading.Event().wait(0.9 * place)
        killed_at[execution_id] = time.time()
        holder.kill()
        psutil.wait_procs([holder], timeout=5)
    statement = """SELECT extract(epoch FROM leased_at)::float8 FROM lease_history
                   WHERE execution_id = %s AND attempt = 2"""
    taken = []
    for execution_id in ids:
        [(leased_at,)] = wait_for(partial(faulty.query, statement, int(execution_id)), 3 * LEASE)
        # Both clocks are this machine's.
        taken.append(round(leased_at - killed_at[execution_id], 2))
    faulty.wait_until_ended(*ids)
    return taken
