"""The site as a Django app: what is handed from one app to another when a process starts."""

from __future__ import annotations

from django.apps import AppConfig


class NoetlSiteConfig(AppConfig):
    """Wiring."""

    name = "noetl_site"
    verbose_name = "NoETL"

    def ready(self) -> None:
        """Tell the catalog which arguments the action kinds take, and Celery which application is current."""
        from catalog.api import register_action_schemas
        from executors.api import argument_schemas
        from noetl_site import celery, checks

        register_action_schemas(argument_schemas())
        celery.app.set_current()
        checks.register_checks()
