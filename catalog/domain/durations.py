"""Durations as playbooks spell them."""

from __future__ import annotations

import re
from typing import Any, Final

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_SECONDS: Final = 366 * 86400.0 * 100
"""What a timer can be set for: a century."""


def seconds_of(value: Any) -> float | None:
    """Seconds, given as a number or as `90s`, `5m`, `2h`; None for anything else. May be infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    matched = _DURATION.fullmatch(str(value).strip().lower())
    return float(matched[1]) * _SECONDS[matched[2]] if matched else None
