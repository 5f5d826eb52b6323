"""How the console looks: Unfold's settings."""

from __future__ import annotations

from typing import Any, Final

UNFOLD: Final[dict[str, Any]] = {
    "SITE_TITLE": "NoETL",
    "SITE_HEADER": "NoETL",
    "SITE_SUBHEADER": "Task orchestration",
    "SITE_SYMBOL": "account_tree",
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
