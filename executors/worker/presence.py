"""Being known: a component announces itself in `runtime`, keeps its heartbeat, and says goodbye."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psutil
from django.conf import settings
from django.db import Error, connection
from django.db.models import QuerySet

from executors.models import CLOCK, Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Component:
    """What a component tells of itself."""

    name: str
    component_type: str
    base_url: str = ""
    capacity: int | None = None
    runtime_type: str = ""
    labels: Any = field(default_factory=dict)


def announce(component: Component) -> None:
    """Write or renew the component's row, ready, with this process in it."""
    process = {
        "type": component.runtime_type,
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        "started_at": psutil.Process().create_time(),
    }
    record(component, process, Runtime.Status.READY)


def record(component: Component, runtime: Mapping[str, Any], status: str) -> Runtime:
    """Write or renew a component's row; `runtime` is what it tells of its process."""
    row, _ = Runtime.objects.update_or_create(
        component_type=component.component_type,
        name=component.name,
        defaults={
            "base_url": component.base_url,
            "status": status,
            "capacity": component.capacity,
            "labels": component.labels,
            "runtime": dict(runtime),
            "last_heartbeat": CLOCK,
            "updated_at": CLOCK,
        },
    )
    row.refresh_from_db()
    return row


def beat(component_type: str, name: str) -> bool:
    """Renew a component's heartbeat. Returns: whether there is such a component."""
    rows = Runtime.objects.filter(component_type=component_type, name=name)
    return bool(rows.update(status=Runtime.Status.READY, last_heartbeat=CLOCK, updated_at=CLOCK))


def query_components(component_type: str | None, status: str | None, runtime_type: str | None) -> QuerySet[Runtime]:
    """Components by type and name: of one type, status and kind of runtime when given."""
    wanted = {"component_type": component_type, "status": status, "runtime__type": runtime_type}
    return Runtime.objects.filter(**{name: value for name, value in wanted.items() if value is not None})


def say_goodbye(component: Component) -> None:
    """Mark the component's row offline."""
    Runtime.objects.filter(component_type=component.component_type, name=component.name).update(
        status=Runtime.Status.OFFLINE, updated_at=CLOCK
    )


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
        """Announce the component now and keep it known."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye and end the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
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
        except Error as error:
            # Being known is a convenience: work goes on, and the next beat tries again.
            logger.warning("%s of %s failed: %s", action.__name__, self._component.name, error)
            connection.close()
