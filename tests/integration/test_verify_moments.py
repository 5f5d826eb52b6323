"""`verify` reads the tables at one moment and each fold at another, and takes its time."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from executions.api import find_fold_difference
from executions.models import Execution
from executors import selectors
from executors.selectors import find_violations
from noetl_site.environment import SESSION_TIMEOUTS
from tests.support.books import CHAIN, start

pytestmark = pytest.mark.usefixtures("fresh_db")


def shown(*names: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        row: tuple[Any, ...] = cursor.fetchone()
    return row


def elsewhere(work: Any) -> None:
    """Do something in another session, and commit it."""

    def run() -> None:
        work()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def spoil(execution_id: int) -> None:
    state = Execution.objects.get(id=execution_id).state or {}
    Execution.objects.filter(id=execution_id).update(state={**state, "cancels": 9})


def test_no_snapshot_is_held_from_one_fold_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = start(CHAIN), start(CHAIN)

    def fold_and_spoil_the_other(execution_id: int) -> str:
        if execution_id == first:
            elsewhere(lambda: spoil(second))
        return find_fold_difference(execution_id)

    monkeypatch.setattr(selectors, "find_fold_difference", fold_and_spoil_the_other)
    [found] = find_violations()
    assert (found.invariant, found.execution_id) == ("fold_of_log_is_state", str(second))
    assert find_violations() == [found]


def test_a_fold_compares_the_log_and_the_state_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    execution_id = start(CHAIN)

    def look_and_spoil_it(id_: int) -> str:
        Execution.objects.get(id=id_)
        elsewhere(lambda: spoil(id_))
        return find_fold_difference(id_)

    monkeypatch.setattr(selectors, "find_fold_difference", look_and_spoil_it)
    assert find_violations() == []
    monkeypatch.undo()
    assert [found.execution_id for found in find_violations()] == [str(execution_id)]


def test_all_executions_are_folded_however_many_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [start(CHAIN) for _ in range(3)]
    monkeypatch.setattr(selectors, "FOLDED_AT_ONCE", 2)
    spoil(ids[0])
    spoil(ids[2])
    assert [found.execution_id for found in find_violations()] == [str(ids[0]), str(ids[2])]


def test_the_bounds_of_a_servers_statements_are_lifted_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    start(CHAIN)
    seen = []
    for name in ("find_executions_without_work", "find_fold_difference"):
        ask = getattr(selectors, name)

        def look(*arguments: Any, ask: Any = ask) -> Any:
            seen.append(shown("statement_timeout", "transaction_isolation", "transaction_read_only"))
            return ask(*arguments)

        monkeypatch.setattr(selectors, name, look)
    assert find_violations() == []
    assert seen == [("0", "repeatable read", "on")] * 2
    assert shown("statement_timeout") == (SESSION_TIMEOUTS["statement_timeout"],)
