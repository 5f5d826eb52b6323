"""How code's logger tells the level of what it logs: by a mark before each line, on the way that all prints go.

Anybody can print such a mark: a level is a word for people, and nothing is decided by it.
Standard library only: the zygote loads this file.
"""

from __future__ import annotations

import logging
from typing import Literal

Level = Literal["debug", "info", "warning", "error", "critical"]

MARK = "\x02"
"""Stands before and behind the level; no text that people print has it."""
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")


class LevelFormatter(logging.Formatter):
    """Writes a record's message, and its exception, with its level before each line."""

    def format(self, record: logging.LogRecord) -> str:
        level = LEVELS[min(max(record.levelno // 10 - 1, 0), len(LEVELS) - 1)]
        return "\n".join(f"{MARK}{level}{MARK}{line}" for line in super().format(record).splitlines() or [""])


def split_level(line: str) -> tuple[Level | None, str]:
    """The level that a line is marked with, and the rest of it. None: it is an ordinary line."""
    if line.startswith(MARK):
        told, mark, text = line[1:].partition(MARK)
        for level in LEVELS if mark else ():
            if told == level:
                return level, text
    return None, line
