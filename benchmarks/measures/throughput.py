"""T1 to T4: steps in a line, in a loop, and in many executions at once, beside Celery and Postgres."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks import playbooks
from benchmarks.bench import Extent, Peers, Scene
from benchmarks.client import Client
from benchmarks.processes import workers_halted
from benchmarks.report import Row, Target
from benchmarks.sampling import Series, interleave

LINE = 40
STARTERS = 4
MILLISECONDS = "ms/step"


def per_step(seconds: Callable[[], float], steps: int) -> Callable[[], float]:
    """Milliseconds a step."""
    return lambda: seconds() * 1000 / steps


def per_second(seconds: Callable[[], float], steps: int) -> Callable[[], float]:
    """Steps a second."""
    return lambda: steps / seconds()


def play_line(scene: Scene, length: int) -> Callable[[], float]:
    """Register a line of steps. Returns: what runs one and tells its seconds, from its row to its end."""
    path = scene.client.register(playbooks.linear(length))
    return lambda: scene.play(path).seconds


def play_wide(scene: Scene, items: int) -> Callable[[], float]:
    """Register a loop. Returns: what runs one of so many items and tells its seconds."""
    path = scene.client.register(playbooks.wide())
    return lambda: scene.play(path, items=items).seconds


def measure_line(scene: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """T1: 40 steps, against a chain's links and bare commits."""
    line = play_line(scene, LINE)
    line()
    requested = Series("from the request on", MILLISECONDS)

    def ours() -> float:
        asked_at = time.time()
        ended = scene.play(f"bench/linear-{LINE}")
        requested.samples.append((ended.ended_at - asked_at) * 1000 / LINE)
        return ended.seconds

    found = interleave(
        extent.repeat,
        {
            "platform": per_step(ours, LINE),
            "Celery chain link": per_step(partial(peers.celery.chain, LINE), LINE),
            "begin-insert-commit": per_step(partial(peers.postgres.commits, 200), 200),
            "autocommit insert": per_step(partial(peers.postgres.inserts, 200), 200),
            "Celery, one message a step": per_step(partial(peers.celery.links, LINE), LINE),
            "Celery chain link, no ack": per_step(partial(peers.celery_noack.chain, LINE), LINE),
            "Celery, two tasks a step": per_step(partial(peers.celery.two_tasks, LINE), LINE),
        },
        MILLISECONDS,
    )
    mine = found.pop("platform")
    targets = {"Celery chain link": Target("<=", 0.5), "begin-insert-commit": Target("<=", 2.5)}
    for name, peer in found.items():
        yield Row("T1", f"line of {LINE}", mine, peer, targets.get(name))
    yield Row("T1", f"line of {LINE}, from the request on", requested, found["Celery chain link"])
    if bench := peers.postgres.pgbench(extent.size(5, 1)):
        yield Row("T1", "pgbench -N, two clients, beside it", Series("pgbench", "tps", [bench]))
    else:
        print("pgbench: not in the wheel", file=sys.stderr)


def measure_long_lines(scene: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """T2: what a step costs in long lines, against one in a short one; a chain's links beside it."""
    short = per_step(play_line(scene, LINE), LINE)
    for length, bound, repeat in (
        (extent.size(400, 200), 1.15, extent.repeat),
        (extent.size(4000, 0), 1.3, extent.repeat),
    ):
        if not length:
            continue
        ways = {
            "long": per_step(play_line(scene, length), length),
            f"line of {LINE}": short,
        }
        chained = "Celery chain link"
        if length <= 400:
            # A chain of 4,000 links carries the rest of itself in each message, and is not waited for.
            ways[chained] = per_step(partial(peers.celery.chain, length), length)
        found = interleave(repeat, ways, MILLISECONDS)
        yield Row("T2", f"line of {length:,}", found["long"], found[f"line of {LINE}"], Target("<=", bound))
        if chained in found:
            yield Row("T2", f"line of {length:,}", found["long"], found[chained])


def measure_wide(scene: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """T3: a loop whose items are all there at once, against a group of tasks."""
    unit = "items/s"
    small, large = extent.size(1000, 200), extent.size(10_000, 0)
    play_wide(scene, 20)()
    ways: dict[str, Callable[[], float]] = {}
    for items in filter(None, (small, large)):
        ways |= {
            f"loop of {items:,}": per_second(play_wide(scene, items), items),
            f"Celery group of {items:,}": per_second(partial(peers.celery.group, items), items),
            f"Celery group of {items:,}, no ack": per_second(partial(peers.celery_noack.group, items), items),
            f"Celery group of {items:,}, collected": per_second(partial(peers.celery_results.gather, items), items),
        }
    found = interleave(extent.repeat, ways, unit)
    for items in filter(None, (small, large)):
        mine, name = found[f"loop of {items:,}"], f"Celery group of {items:,}"
        yield Row("T3", mine.name, mine, found[name], Target(">=", 8))
        yield Row("T3", mine.name, mine, found[f"{name}, no ack"])
        yield Row("T3", mine.name, mine, found[f"{name}, collected"])
    if large:
        yield Row(
            "T3", "time of an item, by number", *_seconds_each(found, (large, small), "loop of"), Target("<=", 1.2)
        )


def _seconds_each(found: dict[str, Series], sizes: tuple[int, int], what: str) -> tuple[Series, Series]:
    """The same samples as milliseconds an item, of the two sizes."""
    one, other = (
        Series(f"{what} {size:,}", "ms/item", [1000 / rate for rate in found[f"{what} {size:,}"].samples])
        for size in sizes
    )
    return one, other


def measure_many(scene: Scene, peers: Peers, extent: Extent) -> Iterator[Row]:
    """T4: many short executions at once, against two tasks a step."""
    executions, steps = extent.size(100, 20), 10
    path = scene.client.register(playbooks.linear(steps))
    scene.play(path)
    many = ManyStarts(scene, path, executions)
    starts = Series("platform", "starts/s")

    def from_backlog() -> float:
        with workers_halted(scene.platform):
            begun = time.time()
            started = many.start()
            starts.samples.append(executions / (time.time() - begun))
        begun = time.time()
        return max(one.ended_at for one in scene.database.wait(started)) - begun

    total = executions * steps
    celery, noack = peers.celery, peers.celery_noack
    ways: dict[str, Callable[[], float]] = {
        "started meanwhile": many.seconds,
        "from a backlog": from_backlog,
        "Celery, two tasks a step": partial(celery.two_tasks, steps, executions),
        "Celery, two tasks a step, no ack": partial(noack.two_tasks, steps, executions),
    }
    found = interleave(extent.repeat, {name: per_second(way, total) for name, way in ways.items()}, "steps/s")
    many.close()
    workload = f"{executions} executions of {steps} steps"
    mine, plain = found["started meanwhile"], found["Celery, two tasks a step"]
    yield Row("T4", workload, mine, plain, Target(">=", 6))
    yield Row("T4", workload, mine, found["Celery, two tasks a step, no ack"])
    yield Row("T4", f"{workload}, from a backlog", found["from a backlog"], plain)
    yield Row("T4", f"starts over REST by {STARTERS} clients", starts)


class ManyStarts:
    """Clients that start executions of one playbook at the same time."""

    def __init__(self, scene: Scene, path: str, executions: int) -> None:
        self._database = scene.database
        self._clients = [Client(scene.platform) for _ in range(STARTERS)]
        self._path, self._each = path, executions // STARTERS

    def start(self) -> list[int]:
        """Start all of them. Returns: their ids."""
        with ThreadPoolExecutor(STARTERS) as pool:
            return [id_ for ids in pool.map(self._start_some, self._clients) for id_ in ids]

    def seconds(self) -> float:
        """Start all of them and wait. Returns: the time from the first one's row to the last one's end."""
        ended = self._database.wait(self.start())
        return max(one.ended_at for one in ended) - min(one.created_at for one in ended)

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients:
            client.close()

    def _start_some(self, client: Client) -> list[int]:
        return [client.start(self._path) for _ in range(self._each)]
