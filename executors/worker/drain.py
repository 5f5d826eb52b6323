"""Stopping in good order: the word that this worker is to take nothing new and to give back what it cannot finish.

The word is a byte of shared memory, made before Celery forks its processes: one write in the parent reaches all of
them, and neither writing nor reading it takes a lock that a signal handler could find taken.
"""

from __future__ import annotations

from multiprocessing.sharedctypes import RawValue
from typing import Any, Final

GRACE_SECONDS: Final = 5.0
"""How long running actions may go on after the word; then their jobs are given back, uncounted (rule R8)."""

_word: Final[Any] = RawValue("b", 0)


def begin() -> None:
    """Give the word; safe in a signal handler."""
    _word.value = 1


def has_begun() -> bool:
    """Whether the word was given."""
    return bool(_word.value)
