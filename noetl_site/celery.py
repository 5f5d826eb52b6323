"""The Celery application `noetl`. Its messages wake workers; what there is to do stands in Postgres.

A worker started by Celery's own command has the embedded services started before it looks for its broker.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noetl_site.settings")

# In the place of Celery's own for Django.
app = Celery("noetl", fixups=["noetl_site.workers:fixup"])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["executions", "executors"])


@signals.setup_logging.connect
def _log_as_configured(**_: Any) -> None:
    """Being connected is the point: Celery leaves logging as the settings have it."""


@signals.celeryd_init.connect
def _start_embedded_services(**_: Any) -> None:
    from django.conf import settings

    from noetl_site import embedded

    if settings.NOETL_EMBEDDED:
        embedded.ensure_running(settings.NOETL_DATA_DIR)
