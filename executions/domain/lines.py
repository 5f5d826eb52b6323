"""Lines of what actions print and log, as values. They are told and never planned with: no event knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Stream = Literal["printed", "logged", "platform"]
Level = Literal["debug", "info", "warning", "error", "critical"]

STREAMS: Final[tuple[Stream, ...]] = ("printed", "logged", "platform")
"""Where a line comes from: what code printed, what it (or its kind) logged, what the platform has to say of it."""
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error", "critical")

LINE_BYTES: Final = 50
"""What a line takes besides its text; so a flood of empty ones is bounded, too."""

_SHOWN_CONTROLS: Final = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if number != 9}
_TOLD_LEVELS: Final = ("warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `at` is the worker's time in ISO form, with its offset from UTC."""

    at: str
    stream: Stream
    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class JobLines:
    """Lines of one attempt of one job, in their order. `index` is the item's place when the job is one of a loop."""

    node_id: str
    step: str
    attempt: int
    index: int | None
    lines: Sequence[LogLine]


def bytes_of(text: str) -> int:
    """What a line counts against the bounds of a log."""
    return len(text.encode(errors="replace")) + LINE_BYTES


def count_bytes(lines: Iterable[LogLine]) -> int:
    """What lines count together."""
    return sum(bytes_of(line.text) for line in lines)


def told_line(node_id: str, level: str, text: str) -> str:
    """A line for a terminal: its node without the execution's id, a level that matters, and no control character."""
    place = node_id.partition(":")[2] or node_id
    mark = f"{level.upper()} " if level in _TOLD_LEVELS else ""
    return f"{place} | {mark}{text.translate(_SHOWN_CONTROLS)}"
