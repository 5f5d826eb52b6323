"""`manage.py reconcile`: the process that makes every message dispensable."""

from __future__ import annotations

import os
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from executors.models import Runtime
from executors.worker import drain
from executors.worker.presence import Component, Presence
from executors.worker.reconciler import Reconciler


class Command(BaseCommand):
    """Run the reconciler until it is told to stop."""

    help = (
        "Take back expired leases, evaluate what was left pending, wake workers, and run jobs while the broker is "
        "away. Several may run; one works at a time."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until SIGTERM or SIGINT."""
        stop = drain.stop_on_signals()
        presence = Presence(
            Component(
                name=f"reconciler@{socket.gethostname()}:{os.getpid()}", component_type=Runtime.ComponentType.BROKER
            ),
            settings.NOETL_WORKER_HEARTBEAT_INTERVAL,
        )
        presence.start()
        try:
            Reconciler().run(stop)
        finally:
            presence.stop()
