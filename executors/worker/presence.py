"""Being known: a component announces itself in `runtime`, keeps its heartbeat, and says goodbye."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import psutil
from django.conf import settings
from django.db import Error, connection
from django.db.models import QuerySet

from executors.durability import find_lossy_settings
from executors.errors import ComponentTaken
from executors.models import CLOCK, Runtime
from queueing.api import count_waiting_by_pool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Component:
    """What a component tells of itself. `process` is what it tells of where it runs: pid, hostname and more.

    `principal` is who announces it over the API; empty for the platform's own processes.
    """

    name: str
    component_type: str
    base_url: str = ""
    capacity: int | None = None
    runtime_type: str = ""
    status: str = Runtime.Status.READY
    labels: Any = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)
    principal: str = ""


def announce(component: Component) -> None:
    """Write or renew the component's row, ready, with this process in it."""
    process = {
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        # By this alone a process of this machine is known to be alive; nobody can tell it over the API.
        "started_at": psutil.Process().create_time(),
    }
    record(replace(component, process=process))


def tell_of_lossy_settings(component: Component) -> None:
    """Log an error for each setting of the database's server by which a crash loses accepted results."""
    for name in find_lossy_settings():
        logger.error("%s works on Postgres with %s = off: a crash loses accepted results", component.name, name)


def record(component: Component) -> Runtime:
    """Write or renew a component's row. Raises: `ComponentTaken` when somebody else announced one of this name."""
    runtime = {"type": component.runtime_type, **component.process}
    row, _ = Runtime.objects.get_or_create(
        component_type=component.component_type, name=component.name, defaults={"principal": component.principal}
    )
    changed = Runtime.objects.filter(pk=row.pk, principal=component.principal).update(
        base_url=component.base_url, status=component.status, capacity=component.capacity, labels=component.labels,
        runtime=runtime, last_heartbeat=CLOCK, updated_at=CLOCK,
    )  # fmt: skip
    if not changed:
        raise ComponentTaken(component.name)
    row.refresh_from_db()
    return row


def beat(component_type: str, name: str, principal: str) -> bool:
    """Renew a component's heartbeat. Returns: whether there is such a component of this principal's."""
    rows = Runtime.objects.filter(component_type=component_type, name=name, principal=principal)
    return bool(rows.update(status=Runtime.Status.READY, last_heartbeat=CLOCK, updated_at=CLOCK))


def say_goodbye(component: Component) -> None:
    """Mark the component's row offline, if it is its principal's."""
    Runtime.objects.filter(
        component_type=component.component_type, name=component.name, principal=component.principal
    ).update(status=Runtime.Status.OFFLINE, updated_at=CLOCK)


def query_components(component_type: str | None, status: str | None, runtime_type: str | None) -> QuerySet[Runtime]:
    """Components by type and name: of one type, status and kind of runtime when given."""
    wanted = {"component_type": component_type, "status": status, "runtime__type": runtime_type}
    return Runtime.objects.filter(**{name: value for name, value in wanted.items() if value is not None})


def sweep_offline(offline_seconds: float) -> int:
    """Mark components offline whose heartbeat is older than this. Returns: how many."""
    limit = CLOCK - timedelta(seconds=offline_seconds)
    return Runtime.objects.filter(status=Runtime.Status.READY, last_heartbeat__lt=limit).update(
        status=Runtime.Status.OFFLINE, updated_at=CLOCK
    )


def find_live(component_type: str) -> list[Runtime]:
    """Ready components with a fresh heartbeat; of those on this host, only the ones whose process is there."""
    limit = CLOCK - timedelta(seconds=settings.NOETL_RUNTIME_OFFLINE_SECONDS)
    rows = Runtime.objects.filter(component_type=component_type, status=Runtime.Status.READY, last_heartbeat__gte=limit)
    return [row for row in rows if _process_is_there(row.runtime)]


def find_unserved_pools(older_than_seconds: float = 10.0) -> dict[str, int]:
    """How many jobs could have been leased for so long in each pool that no live worker serves."""
    # Celery's names of queues are those of pools behind a word of their own.
    served = {
        str(name).removeprefix("noetl.")
        for row in find_live(Runtime.ComponentType.WORKER_POOL)
        for name in _queues_of(row.labels)
    }
    waiting = count_waiting_by_pool(older_than_seconds)
    return {pool: count for pool, count in sorted(waiting.items()) if pool not in served}


def _queues_of(labels: Any) -> list[Any]:
    """The queues that a component names; what others announce over the API has any shape."""
    queues = labels.get("queues") if isinstance(labels, dict) else None
    return queues if isinstance(queues, list) else []


def _process_is_there(runtime: dict[str, Any]) -> bool:
    if runtime.get("hostname") != socket.gethostname() or "started_at" not in runtime:
        # Elsewhere, or announced over the API: its heartbeat is all that is known.
        return True
    try:
        started_at: float = psutil.Process(runtime["pid"]).create_time()
        return abs(started_at - float(runtime["started_at"])) < 1
    except (psutil.Error, KeyError):
        return False


class Presence:
    """Keeps one component's heartbeat from a thread of its own, with its own connection."""

    def __init__(self, component: Component, interval_seconds: float) -> None:
        self._component = component
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Announce the component now and keep it known; tell in its log of a database that may lose results."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye and end the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            self._try(tell_of_lossy_settings)
            while True:
                self._try(announce)
                if self._stop.wait(self._interval_seconds):
                    break
            self._try(say_goodbye)
        finally:
            connection.close()

    def _try(self, action: Any) -> None:
        try:
            action(self._component)
        except (Error, ComponentTaken) as error:
            # Being known is a convenience: work goes on, and the next beat tries again.
            logger.warning("%s of %s failed: %s", action.__name__, self._component.name, error)
            connection.close()
