"""Nudges: what the world outside should hear after a commit, and may as well miss.

A nudge changes nothing but speed: the rows are the truth. Who carries it (Celery) is handed in at start-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from django.db import transaction

from executions.failpoints import failpoint


@dataclass(frozen=True, slots=True)
class Nudge:
    """New jobs by pool, executions whose evaluation was put off, and parents of executions that have ended."""

    new_jobs: Mapping[str, int] = field(default_factory=dict)
    evaluate: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new_jobs or self.evaluate or self.parents)


Carrier = Callable[[Nudge], None]


def _drop(nudge: Nudge) -> None:
    """Carry nothing: the reconciler finds everything by itself."""


class _Carriers:
    """Who carries nudges in this process."""

    current: Carrier = staticmethod(_drop)


def carry_with(carrier: Carrier) -> None:
    """Hand in who carries this process's nudges from now on."""
    _Carriers.current = staticmethod(carrier)


def send_after_commit(nudge: Nudge) -> None:
    """Carry the nudge when the current transaction has committed; a carrier's failure is the carrier's."""
    if nudge:
        transaction.on_commit(lambda: _carry(nudge), robust=True)


def _carry(nudge: Nudge) -> None:
    failpoint("publish.before")
    _Carriers.current(nudge)
