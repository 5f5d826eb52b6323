"""What a step costs in things that can be counted, and that it costs no more in long executions than in short ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from benchmarks import playbooks
from benchmarks.bench import Extent, Scene
from benchmarks.counting import Counter, Spent
from benchmarks.report import Row, Target
from benchmarks.sampling import Series

GROWTH: float = 2
"""How much more a step may cost in an execution of ten times the length. Whatever reads or writes all that has been
so far at every step costs five times as much and more."""


def measure_costs(scene: Scene, extent: Extent) -> Iterator[Row]:
    """Transactions, flushes, messages, events and processor time of a step, in a line and in a loop."""
    length, items = extent.size(400, 100), extent.size(1000, 200)
    line, wide = scene.client.register(playbooks.linear(length)), scene.client.register(playbooks.wide())
    with closing(Counter(scene)) as counter:
        counter.watch_idle(extent.size(20, 5))
        in_line = counter.during(lambda: scene.play(line))
        yield from _rows("T1", f"line of {length:,}", in_line, length, transactions=1.1, messages=0.1)
        in_loop = counter.during(lambda: scene.play(wide, items=items))
        yield from _rows("T3", f"loop of {items:,}", in_loop, items, transactions=0.1, messages=0.05)


def measure_growth(scene: Scene, extent: Extent) -> Iterator[Row]:
    """Lines and loops of ten times the length, by counts alone, so that a busy machine changes nothing."""
    times, short = 10, extent.size(40, 10)
    line, wide = (scene.client.register(book) for book in (playbooks.linear(short), playbooks.wide()))
    long_line = scene.client.register(playbooks.linear(times * short))

    def many_short() -> None:
        for _ in range(times):
            scene.play(line)
            scene.play(wide, items=short)

    def few_long() -> None:
        scene.play(long_line)
        scene.play(wide, items=times * short)

    steps = 2 * times * short
    with closing(Counter(scene)) as counter:
        counter.watch_idle(extent.size(20, 5))
        small, large = counter.during(many_short).counts, counter.during(few_long).counts
    for what in ("transactions", "messages", "events_read", "wal_kb"):
        name = "WAL" if what == "wal_kb" else what.replace("_", " ")
        unit = "KB/step" if what == "wal_kb" else "a step"
        grown, before = (Series(f"{short}", unit, [getattr(counts, what) / steps]) for counts in (large, small))
        yield Row("G", f"{name}, steps of {times * short} at once", grown, before, Target("<=", GROWTH))


def _rows(id_: str, workload: str, spent: Spent, steps: int, *, transactions: float, messages: float) -> Iterator[Row]:
    def row(what: str, figure: float, unit: str = "a step", bound: float | None = None) -> Row:
        target = None if bound is None else Target("<=", bound)
        return Row(id_, f"{workload}: {what}", Series("platform", unit, [figure]), target=target)

    counts = spent.counts
    yield row("transactions", counts.transactions / steps, bound=transactions)
    yield row("messages", counts.messages / steps, bound=messages)
    yield row("WAL flushes", counts.flushes / steps)
    yield row("WAL", counts.wal_kb / steps, "KB/step")
    yield row("events", counts.events / steps)
    yield row("events read", counts.events_read / steps)
    yield row("events by time", counts.events / spent.seconds, "events/s")
    for name, seconds in spent.processor.items():
        yield row(f"processor, {name}", max(0.0, seconds) * 1000 / steps, "ms/step")
    yield row("processor, all", sum(spent.processor.values()) * 1000 / steps, "ms/step")
