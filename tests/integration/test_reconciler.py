"""Of several reconcilers one works (rule R11): the one whose database session holds their lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import Error, connection

from executors.worker.reconciler import Reconciler
from tests.support.inspection import wait_for

pytestmark = pytest.mark.usefixtures("fresh_db")

END_THE_HOLDER = """
SELECT pg_terminate_backend(l.pid, 10000)
FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND d.datname = current_database()
"""


def close_own_session() -> None:
    """Of the thread that calls it."""
    connection.close()


class Process:
    """A reconciler in a thread of its own, which gives it a database session of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._reconciler = Reconciler()

    def is_the_one(self) -> bool:
        """Whether it may work."""
        return self._thread.submit(self._reconciler._is_the_one).result(30)

    def tick(self) -> None:
        """A round of its work. Raises: `Error` when its session has ended."""
        self._thread.submit(self._reconciler.tick).result(30)

    def lose_session(self) -> None:
        """Do what it does when the database is away, and when it stops."""
        self._thread.submit(close_own_session).result(30)

    def close(self) -> None:
        """End it."""
        self.lose_session()
        self._thread.shutdown()


@pytest.fixture
def processes() -> Iterator[tuple[Process, Process]]:
    pair = Process(), Process()
    yield pair
    for process in pair:
        process.close()


def stopped(process: Process) -> None:
    process.lose_session()


def ended_by_the_server(process: Process) -> None:
    with connection.cursor() as cursor:
        cursor.execute(END_THE_HOLDER)
        assert cursor.fetchall() == [(True,)]
    # What it still believes does no harm: it can do nothing without its session.
    with pytest.raises(Error):
        process.tick()
    process.lose_session()


@pytest.mark.parametrize("end", [stopped, ended_by_the_server])
def test_one_reconciler_works_and_another_takes_over_when_its_session_ends(
    processes: tuple[Process, Process], end: Callable[[Process], None]
) -> None:
    first, second = processes
    assert [first.is_the_one(), second.is_the_one(), first.is_the_one()] == [True, False, True]
    end(first)
    # The server may take a moment to see that a session has gone.
    wait_for(second.is_the_one)
    assert [first.is_the_one(), second.is_the_one()] == [False, True]
