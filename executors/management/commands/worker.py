"""`manage.py worker`: a worker over the REST API, with neither database nor broker."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors.errors import ExecutorError, NotAuthenticated, ServerUnreachable
from executors.registry import build_registry
from executors.sandbox.folders import sweep
from executors.worker import drain
from executors.worker.gateway import GatewayUnavailable
from executors.worker.heartbeat import LeaseKeeper
from executors.worker.remote import Refused, RestGateway, Server
from executors.worker.turn import TurnBounds, Worker

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 15.0
TOKEN: Final = "NOETL_API_TOKEN"  # noqa: S105  # the name of a variable


class Command(BaseCommand):
    """Lease, run and report jobs until told to stop."""

    help = (
        "Run a worker that reaches the platform by its REST API alone: it registers its pool, polls the queue, runs "
        "one job at a time and reports. SIGTERM or Ctrl-C lets the running action end for a few seconds, then gives "
        f"its job back. The token (role `worker`) comes from --token or {TOKEN}."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Which server, as whom, for which pools."""
        parser.add_argument("--server", default=settings.NOETL_SERVER_URL, metavar="URL", help="the platform's address")
        parser.add_argument("--token", default="", help=f"an API token; better in {TOKEN}, where `ps` does not show it")
        parser.add_argument("--pool", action="append", default=[], dest="pools", help="of the queue (default: default)")
        parser.add_argument("--name", default="", help="the worker pool's name in `runtime`")
        parser.add_argument(
            "--lease-seconds", type=float, default=settings.NOETL_LEASE_SECONDS, help="how long a job is leased"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Register, work, say goodbye."""
        token = options["token"] or os.environ.pop(TOKEN, "")
        if not token:
            raise CommandError(f"give a token with --token or {TOKEN} (manage.py tokens create)", returncode=2)
        stop = drain.stop_on_signals()
        name = options["name"] or settings.NOETL_WORKER_POOL_NAME or f"rest@{socket.gethostname()}:{os.getpid()}"
        server = Server(options["server"], token)
        pool = _Pool(server, name, options["pools"] or ["default"])
        worker = _build_worker(server, options["lease_seconds"])
        try:
            pool.register()
            pool.keep_known(stop)
            self.stderr.write(f"{name} works for {options['server']}; Ctrl-C stops it")
            _work(worker, pool, stop)
        finally:
            worker.close()
            pool.deregister()


def _build_worker(server: Server, lease_seconds: float) -> Worker:
    sweep()
    worker_id = os.environ.get("NOETL_WORKER_ID") or str(uuid.uuid4())
    gateway = RestGateway(server, worker_id)
    return Worker(
        worker_id=worker_id,
        gateway=gateway,
        kinds=build_registry(settings),
        keeper=LeaseKeeper(gateway, lease_seconds),
        resolve=gateway.credential,
        data_dir=Path(settings.NOETL_DATA_DIR),
        lease_seconds=lease_seconds,
        log_bytes=settings.NOETL_LOG_BYTES_PER_JOB,
    )


def _work(worker: Worker, pool: _Pool, stop: Event) -> None:
    """Turn after turn; a server that is away is asked again, less and less often. Raises: `NotAuthenticated`."""
    pause = POLL_SECONDS
    while not stop.is_set():
        try:
            more = worker.run_turn(pool.queues, TurnBounds()).more
            pause = POLL_SECONDS
        except GatewayUnavailable as error:
            more, pause = False, min(pause * 2, LONGEST_PAUSE_SECONDS)
            logger.warning("%s; asking again in %g s", error, pause)
        if not more:
            stop.wait(pause)


class _Pool:
    """This worker in the platform's list of those who are running."""

    def __init__(self, server: Server, name: str, queues: list[str]) -> None:
        self._server = server
        self._name = name
        self.queues = queues

    def register(self) -> None:
        """Say that this worker is there. Raises: `NotAuthenticated`, `ServerUnreachable`."""
        told = {
            "name": self._name,
            "runtime": settings.NOETL_WORKER_POOL_RUNTIME or "cpu",
            "base_url": os.environ.get("NOETL_WORKER_BASE_URL") or "http://queue-worker",
            "capacity": 1,
            "labels": {"queues": self.queues, "python_isolation": settings.NOETL_PYTHON_ISOLATION},
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
        }
        try:
            self._server.post("worker/pool/register", told)
        except Refused as refused:
            raise NotAuthenticated(str(refused)) from None
        except GatewayUnavailable as error:
            raise ServerUnreachable(str(error)) from None

    def keep_known(self, stop: Event) -> None:
        """Renew the heartbeat from a thread of its own: an action may take longer than the platform waits for one."""
        Thread(target=self._beat_until, args=[stop], name="pool-heartbeat", daemon=True).start()

    def _beat_until(self, stop: Event) -> None:
        while not stop.wait(settings.NOETL_WORKER_HEARTBEAT_INTERVAL):
            try:
                if self._server.post("worker/pool/heartbeat", {"name": self._name}).get("status") == "unknown":
                    self.register()
            except (Refused, GatewayUnavailable, ExecutorError) as error:
                # Being known is a convenience: work goes on, and the next beat tries again.
                logger.warning("heartbeat of %s failed: %s", self._name, error)

    def deregister(self) -> None:
        """Say goodbye, if anybody hears it."""
        try:
            self._server.post("worker/pool/deregister", {"name": self._name})
        except (Refused, GatewayUnavailable) as error:
            logger.warning("%s could not say goodbye: %s", self._name, error)
