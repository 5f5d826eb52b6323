"""Celery wraps the executors: a message wakes a worker, which takes leases from the Postgres queue."""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

from celery import shared_task, signals
from django.conf import settings

from executions.api import Nudge
from executors.broker import carry, taking_next
from executors.models import Runtime
from executors.worker import drain
from executors.worker.presence import Component, Presence
from executors.worker.process import close_this_worker, this_worker
from executors.worker.turn import TurnBounds


@shared_task(name="executors.tasks.run_jobs", ignore_result=True)
def run_jobs(pool: str) -> None:
    """Run one turn on a pool; harmless when doubled, late or for nothing.

    Each job's report runs the broker evaluator in its own transaction. A turn that ends at its bounds hands over to
    another message.
    """
    with taking_next(pool):
        end = this_worker().run_turn([pool], TurnBounds())
    if end.more:
        carry(Nudge(new_jobs={pool: 1}))


@signals.worker_shutting_down.connect
def _drain_pool(**_: Any) -> None:
    """Celery's warm shutdown waits for running turns: let them end soon, and give back what takes long."""
    drain.begin()


@signals.worker_before_create_process.connect
def _keep_what_is_loaded(**_: Any) -> None:
    """What is loaded by now stays, and the pool's processes share it.

    The collector, which writes to all it looks through, would make copies of it; and a job would wait meanwhile.
    """
    gc.collect()
    gc.freeze()


@signals.worker_process_shutdown.connect
def _close_worker(**_: Any) -> None:
    """A process of the pool ends: its sandboxes and connections with it."""
    close_this_worker()


@signals.worker_ready.connect
def _announce_pool(sender: Any, **_: Any) -> None:
    """Let the platform know this worker pool, for as long as it runs."""
    queues = [str(name) for name in sender.app.amqp.queues.consume_from]
    component = Component(
        name=settings.NOETL_WORKER_POOL_NAME or f"celery@{socket.gethostname()}:{os.getpid()}",
        component_type=Runtime.ComponentType.WORKER_POOL,
        capacity=sender.pool.limit if hasattr(sender.pool, "limit") else None,
        runtime_type=settings.NOETL_WORKER_POOL_RUNTIME or "cpu",
        labels={"queues": queues, "python_isolation": settings.NOETL_PYTHON_ISOLATION},
    )
    presence = Presence(component, settings.NOETL_WORKER_HEARTBEAT_INTERVAL)
    presence.start()
    signals.worker_shutdown.connect(lambda **_: presence.stop(), weak=False)
