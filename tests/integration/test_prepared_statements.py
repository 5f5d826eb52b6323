"""The named statements, as far as the rest of their process is concerned."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection, transaction
from psycopg.pq import ExecStatus

from executions import store
from executions.store import statements as executions_store
from executions.store.statements import ask
from queueing import store as queueing_store
from tests.support.books import CHAIN, start
from tests.support.inspection import wait_for
from tests.support.schedules import in_thread, wait_until_waiting

SECONDS = (701, 1022)
"""The object ids of float8 and its arrays."""

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


@pytest.mark.parametrize("store_of", [executions_store, queueing_store])
def test_seconds_are_never_taken_for_whole_numbers(store_of: Any) -> None:
    """Postgres infers a parameter's type from where it stands: a 0 beside it makes it an integer."""
    connection.ensure_connection()
    pgconn = connection.connection.pgconn
    for place, (name, sql) in enumerate(sorted(store_of._STATEMENTS.items())):
        order = sorted(set(re.findall(r"%\((\w+)\)s", sql)))
        numbered = {each: f"${number}" for number, each in enumerate(order, 1)}
        key = f"checked_{place}".encode()
        prepared = pgconn.prepare(key, (sql % numbered).encode())
        assert prepared.status == ExecStatus.COMMAND_OK, (name, prepared.error_message)
        told = pgconn.describe_prepared(key)
        types = {each: told.param_type(at) for at, each in enumerate(order)}
        assert {each: kind for each, kind in types.items() if "seconds" in each and kind not in SECONDS} == {}, name
    connection.close()
