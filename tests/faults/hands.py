"""Deaths of a worker with many jobs in its hands, at the places where it matters: forced, one after the other.

A loop of quick items with a slow one among them, so that a worker leases many at once, and its watch hands in what
waits behind the slow one.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from executions.failpoints import Point
from executions.services import reporting
from executors.worker import drain, gateway, hand
from executors.worker.turn import TurnBounds
from tests.faults.lives import LATER_SECONDS, Calls, Ended, Life, forked
from tests.faults.points import Points
from tests.faults.progress import Broken, tell
from tests.faults.shapes import HEAD

ITEMS: Final = 60
SLOW_ITEM: Final = 40
LONG: Final = TurnBounds(seconds=60.0, stay_seconds=60.0)
"""A busy machine must not end the turn before it comes to the point."""
MAIN: Final = "MainThread"
WATCH: Final = "hand-watch"

UNEVEN: Final = (
    HEAD
    + f"""
name: uneven
path: faults/uneven
workload: {{n: 1}}
workflow:
  - {{step: start, next: each}}
  - step: each
    type: python
    loop: {{in: "{{{{ range({ITEMS}) | list }}}}", iterator: item}}
    with: {{item: "{{{{ item }}}}", n: "{{{{ n }}}}"}}
    code: |
      import time
      def main(item, n):
          if item == {SLOW_ITEM} and context["attempt"] == 1:
              time.sleep(5)
          return item * n
    next: end
  - {{step: end, result: "{{{{ each.results }}}}"}}
"""
)


@dataclass(frozen=True, slots=True)
class Death:
    """At the n-th time that a thread comes to a point. `lost` judges how many leases that costs; the slow job's is one.

    `drains`: it is no death, but the word to stop in good order.
    """

    name: str
    point: Point
    thread: str
    nth: int
    lost: Callable[[int], bool]
    drains: bool = False


def some(lost: int) -> bool:
    """At most what one hand holds, and what was leased for the next."""
    return 1 <= lost <= 50


DEATHS: Final = (
    Death("in the middle of a hand, before an action", "action.before", MAIN, 20, some),
    Death("in the middle of a hand, after an action", "action.after", MAIN, 20, some),
    Death("with results, before they are reported", "report.before", MAIN, 2, some),
    Death("when jobs were leased in a report, before its commit", "report.inside", MAIN, 2, some),
    Death("when jobs were leased in a report, after its commit", "report.committed", MAIN, 2, some),
    Death("while the watch is about to report beside a slow job", "report.before", WATCH, 1, lambda lost: lost >= 2),
    Death("while the watch reports beside a slow job", "report.inside", WATCH, 1, lambda lost: lost >= 2),
    Death("when the watch has reported beside a slow job", "report.committed", WATCH, 1, lambda lost: lost == 1),
    Death("told to stop in the middle of a hand", "action.after", MAIN, 20, lambda lost: lost == 0, drains=True),
)  # fmt: skip


def run_all(points: Points) -> int:
    """Each death once. Returns: how many. Raises: `Broken`."""
    for death in DEATHS:
        _die(points, death)
        points.check_all()
        tell(f"points: {death.name}: 0 violations")
    return len(DEATHS)


def _die(points: Points, death: Death) -> None:
    key, n = f"hand {death.name}", 3
    first = _live(key, n, death, later=False)
    if first.killed is death.drains or "error" in first.told:
        raise Broken(f"{death.name}: the point was not reached: {first.told}")
    # What was given back can be leased at once; what was lost, when its lease is over.
    second = _live(key, n, None, later=not death.drains)
    if second.killed or "error" in second.told:
        raise Broken(f"{death.name}: {second.told.get('error', 'was killed')}")
    points.check_end(key, [item * n for item in range(ITEMS)], death.name)
    endings = dict(
        points.query(
            """SELECT ending, count(*) FROM lease_history h JOIN execution e ON e.id = h.execution_id
               WHERE e.idempotency_key = %s GROUP BY ending""",
            key,
        )
    )
    lost = endings.get("lost", 0)
    is_good = endings["done"] == ITEMS and death.lost(lost) and (not death.drains or endings.get("released", 0) > 0)
    if not is_good:
        raise Broken(f"{death.name}: the leases ended as {endings}")


def _live(key: str, n: int, death: Death | None, *, later: bool) -> Ended:
    def work() -> dict[str, Any]:
        # The word is shared with all forks of this process, which are platforms of their own.
        drain.have_own_word()
        if death is not None:
            _await(death)
        Life(Calls(None), LATER_SECONDS if later else 0.0, LONG).lead(key, "faults/uneven", n)
        return {}

    return forked(work)


def _await(death: Death) -> None:
    """Let this process die there. In a fork only."""
    hits = 0

    def failpoint(point: Point) -> None:
        nonlocal hits
        if point != death.point or threading.current_thread().name != death.thread:
            return
        hits += 1
        if hits == death.nth:
            if death.drains:
                drain.begin()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    for module in (hand, gateway, reporting):
        # This process exists for it.
        setattr(module, "failpoint", failpoint)  # noqa: B010
