"""The named statements, as far as the rest of their process is concerned."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from executions import store
from executions.store.statements import ask
from tests.support.books import CHAIN, start
from tests.support.inspection import wait_for
from tests.support.schedules import in_thread, wait_until_waiting

pytestmark = pytest.mark.usefixtures("fresh_db")


def test_whoever_waits_for_the_database_lets_the_threads_beside_it_work() -> None:
    """Heartbeats are such threads, and requests; here it is the one that holds what is waited for."""
    execution_id = start(CHAIN)
    locks: list[int] = []

    def hold_until_waited_for() -> None:
        with transaction.atomic():
            locks.append(store.lock_execution(execution_id).id)
            wait_until_waiting()

    holding = in_thread(hold_until_waited_for)
    wait_for(lambda: locks or holding.done())
    with transaction.atomic():
        # Two statements at once: they go through a pipeline.
        ask("lock_execution", execution_id=execution_id)
        [row] = ask("lock_execution", execution_id=execution_id)()
    assert row[0] == execution_id
    assert holding.result(30) is None
    connection.close()
