"""Raw Celery over the platform's Redis: its workers, and the shapes of work that are timed on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis
from celery import chain, group

from benchmarks.peers.tasks import BROKER, VARIANT, Variant, make_app
from benchmarks.platform import ROOT, WORKERS, Platform

ANSWER_SECONDS: Final = 600
TELLERS: Final = 8
"""The last tasks of a group tell that they ran. So many may be fetched ahead of the others by a pool of two."""


class CeleryPeer:
    """One variant of the application, with a worker behind it."""

    def __init__(self, broker: str, variant: Variant) -> None:
        self.app = make_app(broker, variant)
        # It waits for its answers as long as they take; redis-py by itself gives up after five seconds.
        self._redis = redis.Redis(unix_socket_path=broker.removeprefix("redis+socket://"), socket_timeout=None)
        self._calls = 0

    def close(self) -> None:
        """Let go of the broker."""
        self.app.close()
        self._redis.close()

    def chain(self, links: int) -> float:
        """Seconds of a `chain` of tasks that do nothing, the sending included."""
        nothing, key = self.app.tasks["bench.nothing"], self._key()
        begun = time.time()
        chain(*[nothing.si() for _ in range(links - 1)], self.app.tasks["bench.tell"].si(key)).apply_async()
        return self._told(key, 1) - begun

    def group(self, tasks: int) -> float:
        """Seconds of a `group` of tasks that do nothing, the sending included."""
        nothing, tell, key = self.app.tasks["bench.nothing"], self.app.tasks["bench.tell"], self._key()
        begun = time.time()
        # Only the last tell of their end: all others are over when those are, and none costs more than it must.
        group(*[nothing.si() for _ in range(tasks - TELLERS)], *[tell.si(key) for _ in range(TELLERS)]).apply_async()
        return self._told(key, TELLERS) - begun

    def gather(self, tasks: int) -> float:
        """Seconds of a `group` of tasks that do nothing, until all their results are there, in order."""
        nothing = self.app.tasks["bench.nothing"]
        begun = time.time()
        results = group(*[nothing.si() for _ in range(tasks)]).apply_async().get(timeout=ANSWER_SECONDS)
        if len(results) != tasks:
            raise RuntimeError(f"Celery gave {len(results)} results of {tasks} tasks")
        return time.time() - begun

    def links(self, length: int) -> float:
        """Seconds of steps each of which sends the next: one message a step."""
        key = self._key()
        begun = time.time()
        self.app.tasks["bench.link"].apply_async((length, key))
        return self._told(key, 1) - begun

    def two_tasks(self, length: int, lines: int = 1) -> float:
        """Seconds of so many lines of steps each of which asks an evaluator for the next: two messages a step."""
        key = self._key()
        begun = time.time()
        for _ in range(lines):
            self.app.tasks["bench.job"].apply_async((length, key))
        return self._told(key, lines) - begun

    def round_trip(self) -> tuple[float, float]:
        """Seconds from the sending of one task to its run, and to the answer's arrival."""
        key = self._key()
        begun = time.time()
        self.app.tasks["bench.tell"].apply_async((key,))
        ran_at = self._told(key, 1)
        return ran_at - begun, time.time() - begun

    def _key(self) -> str:
        self._calls += 1
        return f"bench:{self.app.conf.task_default_queue}:{os.getpid()}:{self._calls}"

    def _told(self, key: str, times: int) -> float:
        """When the last of them told. Raises: `TimeoutError`."""
        last = 0.0
        for _ in range(times):
            answer = self._redis.blpop([key], timeout=ANSWER_SECONDS)
            if answer is None:
                raise TimeoutError(f"Celery did not run {key} in {ANSWER_SECONDS} s")
            last = max(last, float(answer[1]))
        return last


@contextmanager
def celery_peer(platform: Platform, variant: Variant) -> Iterator[CeleryPeer]:
    """The variant with its worker, on the platform's Redis, until the block ends."""
    broker = platform.services.redis_url
    env = os.environ | {BROKER: broker, VARIANT: variant}
    log = Path(platform.data_dir) / f"celery-{variant}.log"
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.tasks", "worker", "-c", str(WORKERS)]
    with log.open("w") as output:
        worker = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
    peer = CeleryPeer(broker, variant)
    try:
        # The first answer tells that it is ready.
        peer.round_trip()
        yield peer
    finally:
        peer.close()
        worker.send_signal(signal.SIGTERM)
        worker.wait()
