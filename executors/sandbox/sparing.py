"""Lines about work that may be long, few enough for a log: the first ones, then one every few seconds, and the last.

Standard library only: the zygote loads this file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from executors.sandbox.printing import Level

FIRST: Final = 20
"""So many lines of a job are told as they come."""
PAUSE_SECONDS: Final = 5.0
"""How long it is silent afterwards between two lines."""


class Sparing:
    """What one job tells of what it does. A line that is left out is counted in the next one."""

    def __init__(
        self, write: Callable[[str, Level], None], *, first: int = FIRST, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        """`write` puts a line into the log."""
        self._write = write
        self._first = first
        self._pause_seconds = pause_seconds
        self._next_at = time.monotonic() + pause_seconds
        self._left_out = 0
        self._last: tuple[str, Level] | None = None

    def tell(self, text: str, level: Level = "info") -> None:
        """Write a line, or keep it back as the last one so far."""
        if self._first > 0 or time.monotonic() >= self._next_at:
            self._first -= 1
            self._put(text, level, self._left_out)
        else:
            self._left_out += 1
            self._last = text, level

    def end(self) -> None:
        """Write the last line, if it was kept back."""
        if self._last is not None:
            self._put(*self._last, self._left_out - 1)

    def _put(self, text: str, level: Level, left_out: int) -> None:
        self._write(f"{text} ({left_out:,} lines before it were left out)" if left_out else text, level)
        self._last, self._left_out = None, 0
        self._next_at = time.monotonic() + self._pause_seconds


def told_seconds(seconds: float) -> str:
    """A time for people: in milliseconds."""
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"
