"""Open connections between jobs: a few in each worker process, each clean, for a while.

Knows sessions and time; nothing of jobs. What a fork inherits is its parent's, and is never used.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Final

import psycopg

from executors.contract import ActionFailed
from executors.stores.postgres_session import Session, StatementFailed
from executors.stores.postgres_target import ForbiddenTarget, Target, refuse_own_database

MAX_IDLE: Final = 4
"""How many connections a process keeps without a job, over all targets."""
IDLE_SECONDS: Final = 60.0
"""How long one is kept without a job."""


@dataclass(frozen=True, slots=True)
class _Idle:
    key: tuple[tuple[str, str], ...]
    session: Session
    since: float


class Pool:
    """Lends one session to one job at a time; the options of a connection, its password among them, are its key."""

    def __init__(self, max_idle: int = MAX_IDLE, idle_seconds: float = IDLE_SECONDS) -> None:
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._idle: list[_Idle] = []
        self._timer: threading.Timer | None = None

    @contextmanager
    def lend(
        self, target: Target, forbidden: Iterable[ForbiddenTarget], deadline: float, cancelled: Event
    ) -> Iterator[Session]:
        """A session for one job, which goes back when the block ends.

        Raises: `ActionFailed` (`postgres_connection`, `target_forbidden`, `timeout`, `cancelled`).
        """
        forbidden = tuple(forbidden)
        refuse_own_database(target.options, forbidden)
        try:
            session = self.take(target.options, deadline, cancelled)
        except (psycopg.Error, UnicodeError) as error:
            raise ActionFailed("postgres_connection", target.mask(str(error))) from None
        try:
            # A name may have meant another address when it was looked up before.
            refuse_own_database({**target.options, "hostaddr": "", **session.address}, forbidden)
            yield session
        finally:
            self.give(target.options, session)

    def take(self, options: Mapping[str, str], deadline: float, cancelled: Event) -> Session:
        """A session that answers, an idle one if there is one. Raises: `psycopg.Error`, `ActionFailed`."""
        key = tuple(sorted(options.items()))
        while (session := self._take_idle(key)) is not None:
            if _answers(session, deadline, cancelled):
                return session
        session = Session(options, deadline)
        try:
            session.begin(deadline, cancelled)
        except BaseException as error:
            # Whatever it was, nobody knows what state the session is in.
            session.close()
            if isinstance(error, StatementFailed):
                raise psycopg.OperationalError(str(error)) from None
            raise
        return session

    def give(self, options: Mapping[str, str], session: Session) -> None:
        """Take a session back; one with a transaction or a statement left in it is closed."""
        if os.getpid() != self._pid or not session.clean_later():
            session.close()
            return
        with self._lock:
            self._idle.append(_Idle(tuple(sorted(options.items())), session, time.monotonic()))
        self.sweep()

    def sweep(self) -> None:
        """Close what is over the bounds; done by a timer, too."""
        self._forget_after_fork()
        with self._lock:
            oldest = time.monotonic() - self._idle_seconds
            kept = [idle for idle in self._idle if idle.since > oldest][-self._max_idle :]
            closing = [idle for idle in self._idle if idle not in kept]
            self._idle = kept
            self._set_timer()
        for idle in closing:
            idle.session.close()

    def close(self) -> None:
        """Close every idle connection."""
        self._forget_after_fork()
        with self._lock:
            idle, self._idle = self._idle, []
            self._set_timer()
        for one in idle:
            one.session.close()

    def _take_idle(self, key: tuple[tuple[str, str], ...]) -> Session | None:
        self._forget_after_fork()
        with self._lock:
            for number in range(len(self._idle) - 1, -1, -1):
                if self._idle[number].key == key:
                    return self._idle.pop(number).session
        return None

    def _set_timer(self) -> None:
        """Have `sweep` called when the next one has been idle for long enough. The lock is held."""
        if self._timer is not None and (not self._idle or not self._timer.is_alive()):
            self._timer.cancel()
            self._timer = None
        if self._idle and self._timer is None:
            left = self._idle[0].since + self._idle_seconds - time.monotonic()
            self._timer = threading.Timer(max(0.0, left) + 0.01, self._timed_sweep)
            self._timer.daemon = True
            self._timer.start()

    def _timed_sweep(self) -> None:
        with self._lock:
            self._timer = None
        self.sweep()

    def _forget_after_fork(self) -> None:
        """In a child: drop what the parent has open, without a word to its servers (psycopg's objects see to that)."""
        if os.getpid() != self._pid:
            self._lock = threading.Lock()
            self._pid, self._idle, self._timer = os.getpid(), [], None


def _answers(session: Session, deadline: float, cancelled: Event) -> bool:
    """Whether an idle session can be used: it was cleaned, and answers to its first statement."""
    try:
        session.begin(deadline, cancelled)
    except (psycopg.Error, StatementFailed):
        session.close()
        return False
    except ActionFailed as failure:
        session.close()
        if failure.code == "cancelled" or time.monotonic() >= deadline:
            raise
        return False
    return True
