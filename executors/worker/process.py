"""This process as a worker: built once, after the fork, from the settings."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

from django.conf import settings

from executors.registry import build_registry
from executors.sandbox.folders import sweep
from executors.worker.gateway import DatabaseGateway
from executors.worker.heartbeat import LeaseKeeper
from executors.worker.turn import Worker


@cache
def worker_for_process(pid: int) -> Worker:
    """The worker of the process `pid`, which must be this one: a fork builds its own."""
    sweep()
    gateway = DatabaseGateway()
    lease_seconds = float(settings.NOETL_LEASE_SECONDS)
    return Worker(
        worker_id=f"{socket.gethostname()}:{pid}",
        gateway=gateway,
        kinds=build_registry(settings),
        keeper=LeaseKeeper(gateway, lease_seconds),
        resolve=gateway.credential,
        data_dir=Path(settings.NOETL_DATA_DIR),
        lease_seconds=lease_seconds,
        log_bytes=settings.NOETL_LOG_BYTES_PER_JOB,
    )


def close_this_worker() -> None:
    """Release what this process's worker keeps warm, if it ever worked."""
    if worker_for_process.cache_info().currsize:
        this_worker().close()
        worker_for_process.cache_clear()


def this_worker() -> Worker:
    """The worker of this process."""
    return worker_for_process(os.getpid())
