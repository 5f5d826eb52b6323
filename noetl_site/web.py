"""Gunicorn's configuration: `gunicorn -c python:noetl_site.web noetl_site.wsgi`. The server announces itself.

The names are Gunicorn's. What is set on its command line counts more.
"""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

worker_class = "gthread"
workers = int(os.environ.get("NOETL_SERVER_WORKERS", "1"))
threads = 8
# The application is loaded once and shared by the workers' memory.
preload_app = True
# Workers and scripts ask every few seconds. With Gunicorn's 2 s their kept connections were closed just as they sent.
keepalive = 75
graceful_timeout = 5
timeout = 60
# Its socket has one place per user, and two platforms would fight for it.
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112  # heartbeats, not data

_presence: dict[int, Any] = {}


def pre_fork(server: Any, worker: Any) -> None:
    """What is loaded by now stays, and the workers share it.

    The collector, which writes to all it looks through, would make copies of it; and a request would wait, now and
    then, for as long as it takes to answer ten.
    """
    gc.collect()
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """Let the platform know this server, from each of its workers."""
    from django.conf import settings

    from executors.api import Component, Presence, Runtime

    component = Component(
        name=settings.NOETL_SERVER_NAME or f"server-{socket.gethostname()}",
        component_type=Runtime.ComponentType.SERVER_API,
        base_url=f"{settings.NOETL_SERVER_URL.rstrip('/')}/api",
    )
    presence = Presence(component, settings.NOETL_RUNTIME_SWEEP_INTERVAL)
    presence.start()
    _presence[os.getpid()] = presence


def worker_exit(server: Any, worker: Any) -> None:
    """Say goodbye."""
    presence = _presence.pop(os.getpid(), None)
    if presence is not None:
        presence.stop()
