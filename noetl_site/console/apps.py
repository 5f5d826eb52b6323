"""Django's admin with the console's site as its default."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AdminConfig):
    """The admin, as this platform shows it."""

    default_site = "noetl_site.console.site.ConsoleSite"
