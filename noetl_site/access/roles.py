"""The roles, as Django groups: which permissions each holds.

Views and console pages ask for permissions, never for roles, so a group of one's own works as well.
"""

from __future__ import annotations

from typing import Final

from django.apps import AppConfig
from django.contrib.auth.models import Group, Permission
from django.db.models import Q

VIEWER: Final = "viewer"
OPERATOR: Final = "operator"
AUTHOR: Final = "author"
WORKER: Final = "worker"
ADMIN: Final = "admin"

_VIEW: Final = frozenset(
    {
        "catalog.view_playbookversion",
        "executions.view_execution",
        "executions.view_eventlog",
        "executions.view_actionlog",
        "queueing.view_job",
        "queueing.view_leasehistory",
        "executors.view_runtime",
        "executors.view_credential",
    }
)
_RUN: Final = frozenset({"executions.start_execution", "executions.cancel_execution", "executions.control_execution"})

ROLES: Final[dict[str, frozenset[str]]] = {
    VIEWER: _VIEW,
    OPERATOR: _VIEW | _RUN | {"executions.render_template", "executions.post_event", "queueing.repair_job"},
    # A job by hand is code that workers run, as a playbook is.
    AUTHOR: _VIEW | _RUN | {"catalog.register_playbookversion", "queueing.enqueue_job"},
    WORKER: frozenset({"queueing.work_job", "executors.announce_pool", "executors.resolve_credential"}),
}
"""Every role but `admin`, which holds every permission there is."""

NAMES: Final = (*ROLES, ADMIN)


def permissions_of(roles: list[str]) -> frozenset[str] | None:
    """What these roles may do together; None for everything."""
    if ADMIN in roles:
        return None
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))


def ensure_roles(sender: AppConfig, using: str, **_: object) -> None:
    """Make the groups and give each its permissions; after every migration, when all permissions are there."""
    for role, names in ROLES.items():
        _give(role, _permissions(names, using), using)
    _give(ADMIN, list(Permission.objects.using(using)), using)


def _permissions(names: frozenset[str], using: str) -> list[Permission]:
    wanted = Q()
    for name in names:
        app, _, codename = name.partition(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    return list(Permission.objects.using(using).filter(wanted))


def _give(role: str, permissions: list[Permission], using: str) -> None:
    group, _ = Group.objects.using(using).get_or_create(name=role)
    missing = set(permissions) - set(group.permissions.using(using))
    if missing:
        # Added only: what an administrator has given beyond that stays.
        group.permissions.add(*missing)
