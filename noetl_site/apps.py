"""The site as a Django app: what is handed from one app to another when a process starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class NoetlSiteConfig(AppConfig):
    """Wiring."""

    name = "noetl_site"
    verbose_name = "NoETL"

    def ready(self) -> None:
        """Tell the catalog which arguments the action kinds take, and Celery which application is current."""
        from catalog.api import register_action_schemas
        from executors.api import argument_schemas
        from noetl_site import celery, checks
        from noetl_site.access.roles import ensure_roles

        register_action_schemas(argument_schemas())
        celery.app.set_current()
        checks.register_checks()
        post_migrate.connect(ensure_roles, sender=self)
