"""How the console looks: Unfold's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _page(title: str, icon: str, label: str) -> dict[str, Any]:
    """An entry of the sidebar: the list of a model, for those who may see it."""
    app, _, model = label.partition(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{model}_changelist"),
        "permission": _needs(f"{app}.view_{model}"),
    }


def _needs(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


NAVIGATION: Final = [
    {
        "items": [
            {"title": "Overview", "icon": "monitoring", "link": reverse_lazy("admin:index")},
            _page("Playbooks", "menu_book", "catalog.playbookversion"),
            _page("Executions", "play_circle", "executions.execution"),
            _page("Events", "history", "executions.eventlog"),
        ]
    },
    {
        "title": "Queue",
        "items": [_page("Jobs", "inbox", "queueing.job"), _page("Leases", "timer", "queueing.leasehistory")],
    },
    {
        "title": "Platform",
        "items": [_page("Workers", "memory", "executors.runtime"), _page("Credentials", "key", "executors.credential")],
    },
    {
        "title": "Users & groups",
        "items": [
            _page("Users", "person", "auth.user"),
            _page("Groups", "group", "auth.group"),
            _page("API tokens", "vpn_key", "noetl_site.apitoken"),
        ],
    },
]

UNFOLD: Final[dict[str, Any]] = {
    "SITE_TITLE": "NoETL",
    "SITE_HEADER": "NoETL",
    "SITE_SUBHEADER": "Task orchestration",
    "SITE_URL": None,
    "SITE_SYMBOL": "account_tree",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("console/favicon.svg")},
    ],
    "STYLES": [lambda request: static("console/console.css")],
    "SIDEBAR": {"show_search": False, "show_all_applications": False, "navigation": NAVIGATION},
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "#eefcf9",
            "100": "#d3f6ee",
            "200": "#aaecde",
            "300": "#74dbc9",
            "400": "#40c2af",
            "500": "#22a594",
            "600": "#178578",
            "700": "#166a61",
            "800": "#16554f",
            "900": "#164642",
            "950": "#062a28",
        },
    },
}
