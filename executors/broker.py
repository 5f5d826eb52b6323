"""Carrying nudges over Celery: quickly or not at all.

A message wakes a worker and is nothing but a hint, so a broker that is away or hangs must not hold anybody up: after a
failure nothing is sent for a while, and the reconciler does what the messages would have done.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from celery import current_app
from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from executions.api import Nudge

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

RUN_JOBS: Final = "executors.tasks.run_jobs"
EVALUATE: Final = "executions.tasks.evaluate_execution"
SILENT_SECONDS: Final = 2.0
MAX_SENDERS: Final = 4
"""Threads that send at once: as many as the pool has connections, so that they wait here, and not for one of those."""
MAX_WAKE_UPS: Final = 8
"""Messages per commit and pool at most: more would wake workers that are awake already."""

_SOME_ID: Final = "00000000-0000-4000-8000-000000000000"

_taking_next: ContextVar[str | None] = ContextVar("taking_next", default=None)


def queue_of(pool: str) -> str:
    """The Celery queue that wakes the workers of a pool."""
    return f"noetl.{pool}"


@contextmanager
def taking_next(pool: str) -> Iterator[None]:
    """While a turn goes on, the next job of its pool needs no message: the turn takes it itself."""
    token = _taking_next.set(pool)
    try:
        yield
    finally:
        _taking_next.reset(token)


class Breaker:
    """Whether the broker is worth a try."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed_until = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the last try failed a short while ago."""
        return time.monotonic() < self._closed_until

    def trip(self) -> None:
        """Send nothing for a while."""
        with self._lock:
            self._closed_until = time.monotonic() + SILENT_SECONDS


breaker: Final = Breaker()
_senders: Final = threading.BoundedSemaphore(MAX_SENDERS)


def carry(nudge: Nudge) -> None:
    """Send the messages of a nudge, unless the broker is away."""
    for pool, count in nudge.new_jobs.items():
        wake_ups = count - 1 if _taking_next.get() == pool else count
        for _ in range(min(wake_ups, MAX_WAKE_UPS)):
            if not send(RUN_JOBS, queue_of(pool), {"pool": pool}):
                return
    for execution_id in nudge.evaluate:
        if not send(EVALUATE, queue_of("default"), {"execution_id": execution_id}):
            return
    for execution_id in nudge.parents:
        if not send(EVALUATE, queue_of("default"), {"execution_id": execution_id, "wait": True}):
            return


def send(task: str, queue: str, arguments: Mapping[str, object]) -> bool:
    """Send one message. Returns: whether it was sent."""
    if breaker.is_away:
        return False
    with _senders:
        # Again: it may have been found to hang while this thread waited for its turn.
        if breaker.is_away:
            return False
        try:
            message = _message(task, queue, tuple(arguments.items()))
            _push(queue, message.replace(_SOME_ID, str(uuid4())))
        except (OperationalError, RedisError, OSError) as error:
            breaker.trip()
            logger.warning("the broker is away, the reconciler takes over: %s", error)
            return False
    return True


def _push(queue: str, message: str) -> None:
    """Put a message into a queue, on a kept connection. Raises: what kombu and redis raise when it cannot be had.

    `send_task` would ask Redis first where the queue's exchange leads to, and build a message that is the same each
    time but for its id: on the way of every start to its first action that is more than the message itself costs.
    """
    # The stubs of Celery take the pool's connections for producers.
    pool: Any = current_app.pool
    with pool.acquire(block=True) as connection:
        connection.default_channel.client.lpush(queue, message)


@lru_cache(maxsize=64)
def _message(task: str, queue: str, arguments: tuple[tuple[str, object], ...]) -> str:
    """A task's message as Celery and kombu write it, with `_SOME_ID` in the place of its id.

    Written through kombu's transport in memory, whose messages are those of its Redis.
    """
    headers, properties, body, _ = current_app.amqp.create_task_message(
        _SOME_ID, task, (), dict(arguments), ignore_result=True
    )
    with Connection("memory://") as connection:
        Producer(connection).publish(
            body, exchange="", routing_key=queue, serializer="json", headers=headers, **properties
        )
        channel: Any = connection.default_channel
        return json.dumps(channel._get(queue))


def broker_answers() -> bool:
    """Whether the broker takes a connection and answers on it."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
    except (OperationalError, OSError):
        return False
    return True
