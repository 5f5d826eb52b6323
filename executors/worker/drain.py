"""Stopping in good order: the word that this worker is to take nothing new and to give back what it cannot finish.

The word is a byte of shared memory, made before Celery forks its processes: one write in the parent reaches all of
them, and neither writing nor reading it takes a lock that a signal handler could find taken. A program that is a fork
itself asks for a word of its own first.
"""

from __future__ import annotations

import signal
from multiprocessing.sharedctypes import RawValue
from threading import Condition, Event, RLock
from typing import Any, Final

GRACE_SECONDS: Final = 5.0
"""How long running actions may go on after the word; then their jobs are given back, uncounted (rule R8)."""

_word: Any = RawValue("b", 0)


class StopEvent(Event):
    """An event that a signal's handler may set.

    The handler runs in the main thread, which may be inside `wait` and hold the event's lock: here one that the same
    thread may take again. A `wait` that it comes just before ends with its time-out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cond = Condition(RLock())


def have_own_word() -> None:
    """Share no word with the process that this one was forked from, nor with its other forks."""
    global _word  # noqa: PLW0603  # one word per program is the point
    _word = RawValue("b", 0)


def stop_on_signals() -> Event:
    """Let SIGTERM and SIGINT give the word. Returns: an event that is set with it, for a process that waits."""
    stop = StopEvent()

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
