"""A plain Celery application: nothing durable, tasks that do nothing but send the next one.

`celery -A benchmarks.peers.tasks worker` reads its broker and its variant from the environment; the benchmark, which
sends the tasks, makes the same application by `make_app`.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any, Final, Literal, cast

import redis
from celery import Celery, Task

BROKER: Final = "BENCH_BROKER"
VARIANT: Final = "BENCH_VARIANT"

Variant = Literal["plain", "noack", "results"]
"""Celery as it comes with no results kept; its Redis transport without acknowledgements; with results in Redis."""


def make_app(broker: str, variant: Variant) -> Celery:
    """The application. Each variant has a queue of its own, as all have workers at the same time."""
    app = Celery("bench", broker=broker, backend=broker if variant == "results" else None)
    app.conf.task_ignore_result = variant != "results"
    app.conf.task_default_queue = f"bench.{variant}"
    app.conf.broker_connection_retry_on_startup = True
    if variant == "noack":
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
    app = make_app(os.environ[BROKER], cast("Variant", os.environ[VARIANT]))
