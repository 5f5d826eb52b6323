"""A steady load of executions on a platform, and the ledger of those whose start was acknowledged."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.faults.faulty import ENDED, Faulty
from tests.faults.shapes import HEAD, SHAPES
from tests.support.starting import NotAcknowledged, Starter

WIDE_ITEMS: Final = 100
AGAIN_SECONDS: Final = 0.2
STOP_SECONDS: Final = 120.0
"""Within which everything that was asked for is acknowledged, once there are no faults."""

SLOW: Final = (
    HEAD
    + """
name: slow
path: faults/slow
workload: {n: 1}
workflow:
  - {step: start, next: each}
  - step: each
    type: python
    loop: {in: "{{ range(4) | list }}", iterator: item}
    with: {item: "{{ item }}", n: "{{ n }}"}
    code: |
      import time
      def main(item, n):
          time.sleep(0.3)
          return item + n
    next: end
  - {step: end, result: "{{ each.results }}"}
"""
)


@dataclass(frozen=True, slots=True)
class Order:
    """One start: its idempotency key, what is started, and what must come of it."""

    key: str
    path: str
    parameters: dict[str, Any]
    expected: Any


def some_order(dice: random.Random, key: str) -> Order:
    """A start of any shape; most of the jobs are items of wide loops."""
    n = dice.randrange(1, 1000)
    kind = dice.choices(["wide", "slow", "shape"], [4, 1, 6])[0]
    if kind == "wide":
        expected = [item * n for item in range(WIDE_ITEMS)]
        return Order(key, "faults/fan", {"n": n, "items": WIDE_ITEMS}, expected)
    if kind == "slow":
        return Order(key, "faults/slow", {"n": n}, [item + n for item in range(4)])
    shape = dice.choice(SHAPES)
    return Order(key, shape.path, {"n": n}, shape.result_for(n))


class Orders:
    """Threads that start one execution after the other while fewer than `most` are open.

    A start without an answer is started again with the same key, as a client would do. What was acknowledged is written
    down before anything else happens.
    """

    def __init__(self, faulty: Faulty, file: Path, seed: int, most: int = 40, threads: int = 2) -> None:
        self.acknowledged: dict[str, tuple[str, Order]] = {}
        self.refused = 0
        self._faulty = faulty
        self._file = file
        self._most = most
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._threads = [
            threading.Thread(target=self._start_many, args=[random.Random(f"{seed} {nth}"), nth], daemon=True)
            for nth in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Start nothing new, and wait until what has been asked for is acknowledged."""
        self._enough.set()
        give_up_at = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
            if thread.is_alive():
                raise AssertionError("a start is not acknowledged within two minutes of a platform without faults")

    def _start_many(self, dice: random.Random, nth: int) -> None:
        starter = Starter(self._faulty.platform)
        count = 0
        while not self._enough.is_set():
            if self._are_enough_open():
                self._enough.wait(AGAIN_SECONDS)
                continue
            count += 1
            order = some_order(dice, f"order {nth}.{count}")
            execution_id = self._start(starter, order)
            with self._lock, self._file.open("a") as ledger:
                ledger.write(json.dumps({"id": execution_id, **asdict(order)}) + "\n")
                self.acknowledged[order.key] = (execution_id, order)

    def _start(self, starter: Starter, order: Order) -> str:
        pause = threading.Event()
        while True:
            try:
                return starter.start(order.path, order.parameters, key=order.key)
            except NotAcknowledged:
                self.refused += 1
                pause.wait(AGAIN_SECONDS)

    def _are_enough_open(self) -> bool:
        statement = "SELECT count(*) FROM execution WHERE status <> ALL(%s)"
        with suppress(psycopg.Error):
            return bool(self._faulty.query(statement, list(ENDED))[0][0] >= self._most)
        # The database is away: nobody knows.
        return True
