"""System checks of the platform: what a deployment should know before it starts.

`manage.py check --deploy` judges the settings; `manage.py check --database default` asks the server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from executors.api import find_kinds, find_lossy_settings
from noetl_site.environment import secret


def register_checks() -> None:
    """Make the checks known to Django."""
    register(check_roles, Tags.security, deploy=True)
    register(check_failpoints, Tags.security, deploy=True)
    register(check_shared_keys, Tags.security, deploy=True)
    register(check_durability, Tags.database)
    register(check_plugins)


def check_roles(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Whether the application works under a role of its own."""
    if settings.DATABASES["default"]["USER"] != settings.DATABASES["admin"]["USER"]:
        return []
    return [
        Warning(
            "The application uses the role that owns its tables, so grants do not protect the event log.",
            hint="Give the owner's role in DATABASE_ADMIN_URL and another, without ownership, in DATABASE_URL.",
            id="noetl_site.W001",
        )
    ]


def check_failpoints(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Whether processes are told to die at named points, which is for tests."""
    if not os.environ.get("NOETL_FAILPOINTS"):
        return []
    return [
        Warning(
            "Failpoints are switched on: whoever writes into their folder kills processes of the platform.",
            hint="Unset NOETL_FAILPOINTS.",
            id="noetl_site.W002",
        )
    ]


def check_shared_keys(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Whether every host has the same keys: servers of one's own are shared by many, a data folder may not be."""
    given = [name for name in ("SECRET_KEY", "NOETL_CREDENTIAL_KEYS") if secret(name)]
    if settings.NOETL_EMBEDDED or len(given) == 2:
        return []
    return [
        Warning(
            "Keys were generated into this host's data folder: another host has others, and reads neither the stored "
            "credentials nor the sessions of this one.",
            hint="Set SECRET_KEY and NOETL_CREDENTIAL_KEYS, the same for every process of the platform.",
            id="noetl_site.W004",
        )
    ]


def check_plugins(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Whether every installed plugin's kind of action can be used."""
    return [
        Warning(
            f"The action kind {plugin.name} of {plugin.origin} cannot be used: {plugin.problem}",
            hint="Install a version of the plugin that fits, or remove it.",
            id="noetl_site.W003",
        )
        for plugin in find_kinds().broken
    ]


def check_durability(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Whether the server keeps what it has committed."""
    return [message for alias in databases or () for message in _durability_of(alias)]


def _durability_of(alias: str) -> list[CheckMessage]:
    return [
        Error(
            f"The database {alias!r} runs with {name} = off: a crash loses accepted results.",
            hint=f"Set {name} = on.",
            id="noetl_site.E001",
        )
        for name in find_lossy_settings(alias)
    ]
