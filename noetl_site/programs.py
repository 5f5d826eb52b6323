"""The programs that a platform on one machine is made of, each as a function, and what each has to load.

They do the same as `gunicorn -c python:noetl_site.web noetl_site.wsgi`, `celery -A noetl_site worker` and
`manage.py reconcile`, by which they are started elsewhere. The supervisor loads once and forks them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from socket import socket

from django.core.management import load_command_class

from executors.api import have_own_word


def load_web() -> None:
    """Everything that answers requests."""
    from django.urls import get_resolver

    for name in ("gunicorn.app.wsgiapp", "gunicorn.workers.gthread", "noetl_site.web", "noetl_site.wsgi"):
        import_module(name)
    # Else loaded by the first request.
    assert get_resolver().url_patterns


def serve(listener: int) -> int:
    """The web server on a socket that listens already, by its descriptor. Ends by `SystemExit`."""
    from gunicorn.app.wsgiapp import WSGIApplication

    sys.argv = ["gunicorn", "-c", "python:noetl_site.web", "--bind", f"fd://{listener}", "noetl_site.wsgi"]
    WSGIApplication(prog="gunicorn").run()
    return 0


def load_worker() -> None:
    """Celery's worker with its pool, and our tasks."""
    from noetl_site.celery import app

    for name in ("celery.bin.celery", "celery.apps.worker", "celery.concurrency.prefork", "kombu.transport.redis"):
        import_module(name)
    app.loader.import_default_modules()


def work(pools: Sequence[str], processes: int, listener: socket | None) -> int:
    """Celery's worker for these pools, with so many processes. `listener` is the web server's. Ends by `SystemExit`."""
    _leave_to_web(listener)
    from celery.bin.celery import celery

    have_own_word()
    queues = ",".join(f"noetl.{pool}" for pool in pools)
    quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    arguments = ["-A", "noetl_site", "worker", "-Q", queues, "-c", str(processes), *quiet]
    # What Celery shows as its title.
    sys.argv = ["celery", *arguments]
    celery.main(args=arguments, prog_name="celery")
    return 0


def load_reconciler() -> None:
    """What it runs jobs with while the broker is away."""
    load_command_class("executors", "reconcile")


def reconcile(listener: socket | None) -> int:
    """The reconciler. `listener` is the web server's. Returns: its exit code."""
    _leave_to_web(listener)
    from noetl_site.exits import run_command_line

    have_own_word()
    return run_command_line(["manage.py", "reconcile"])


def _leave_to_web(listener: socket | None) -> None:
    """Close what came along with the fork: held here, the port would be taken when the web server is gone."""
    if listener is not None:
        listener.close()
