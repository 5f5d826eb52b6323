"""A plain Celery application: nothing durable, no results, tasks that do nothing but send the next one.

`celery -A benchmarks.peers.tasks worker` reads its broker and its variant from the environment; the benchmark, which
sends the tasks, makes the same application by `make_app`.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any, Final

import redis
from celery import Celery, Task

BROKER: Final = "BENCH_BROKER"
ACKNOWLEDGES: Final = "BENCH_ACKNOWLEDGES"


def queue_of(*, acknowledges: bool) -> str:
    """The variant's queue: both have workers at the same time."""
    return "bench.plain" if acknowledges else "bench.noack"


def make_app(broker: str, *, acknowledges: bool) -> Celery:
    """Celery as it comes; without acknowledgements its Redis transport does less."""
    app = Celery("bench", broker=broker)
    app.conf.task_ignore_result = True
    app.conf.task_default_queue = queue_of(acknowledges=acknowledges)
    app.conf.broker_connection_retry_on_startup = True
    if not acknowledges:
        app.conf.broker_transport_options = {"ack_emulation": False}
    app.task(name="bench.nothing")(nothing)
    app.task(name="bench.tell")(tell)
    app.task(name="bench.link", bind=True)(link)
    app.task(name="bench.job", bind=True)(job)
    app.task(name="bench.evaluate", bind=True)(evaluate)
    return app


def nothing() -> None:
    """Do nothing."""


def tell(key: str) -> None:
    """Say to whoever waits at this key what time it is."""
    _redis(os.environ[BROKER]).rpush(key, time.time())


def link(self: Task[Any, Any], left: int, key: str) -> None:
    """One step, which sends the next itself."""
    if left > 1:
        self.apply_async((left - 1, key))
    else:
        tell(key)


def job(self: Task[Any, Any], left: int, key: str) -> None:
    """One step, which asks an evaluator what comes next."""
    self.app.tasks["bench.evaluate"].apply_async((left - 1, key))


def evaluate(self: Task[Any, Any], left: int, key: str) -> None:
    """Send the next step, if there is one."""
    if left:
        self.app.tasks["bench.job"].apply_async((left, key))
    else:
        tell(key)


@cache
def _redis(broker: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=broker.removeprefix("redis+socket://"))


if BROKER in os.environ:
    app = make_app(os.environ[BROKER], acknowledges=os.environ[ACKNOWLEDGES] == "1")
