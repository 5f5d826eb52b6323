"""Stopping in good order: the word that this worker is to take nothing new and to give back what it cannot finish.

The word is a byte of shared memory, made before Celery forks its processes: one write in the parent reaches all of
them, and neither writing nor reading it takes a lock that a signal handler could find taken.
"""

from __future__ import annotations

import signal
from multiprocessing.sharedctypes import RawValue
from threading import Event
from typing import Any, Final

GRACE_SECONDS: Final = 5.0
"""How long running actions may go on after the word; then their jobs are given back, uncounted (rule R8)."""

_word: Final[Any] = RawValue("b", 0)


def stop_on_signals() -> Event:
    """Let SIGTERM and SIGINT give the word. Returns: an event that is set with it, for a process that waits."""
    stop = Event()

    def stop_soon(*_: Any) -> None:
        stop.set()
        begin()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop_soon)
    return stop


def begin() -> None:
    """Give the word; safe in a signal handler."""
    _word.value = 1


def has_begun() -> bool:
    """Whether the word was given."""
    return bool(_word.value)
