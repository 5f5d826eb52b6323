"""Exactly once: what a step does in a database is done by one of its attempts, however many there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.database_steps import ROLE, Step, step_socket


@pytest.fixture
def step(tmp_path: Path) -> Iterator[Step]:
    step = Step(step_socket(), tmp_path)
    step.run("drop table if exists noetl_effects, t; create table t (a int)")
    yield step
    step.run("drop table if exists noetl_effects, t")
    step.action.close()


def count(step: Step) -> int:
    return int(step.value("select count(*) from t"))


def test_a_second_attempt_gets_what_the_first_did(step: Step) -> None:
    text = "insert into t values (1); select 1.5 as n, '{\"a\": [null]}'::jsonb as j, 'it''s' as s"
    first = step.run(text, exactly_once=True)
    assert step.run(text, exactly_once=True) == first and count(step) == 1
    assert first["command_1"]["rows"] == [{"n": 1.5, "j": {"a": [None]}, "s": "it's"}]


def test_another_step_is_another_effect(step: Step) -> None:
    for node in ("a", "b", "b:0", "b:1", "b:1"):
        step.run("insert into t values (1)", exactly_once=True, node=node)
    assert count(step) == 4
    assert step.value("select json_agg(key order by key) from noetl_effects") == ["e1:a", "e1:b", "e1:b:0", "e1:b:1"]


def test_without_being_asked_for_there_is_none(step: Step) -> None:
    step.run("insert into t values (1)")
    step.run("insert into t values (1)")
    assert count(step) == 2 and step.value("select to_regclass('noetl_effects')") is None


def test_an_attempt_that_fails_leaves_nothing(step: Step) -> None:
    assert step.fails("insert into t values (1); select nope", exactly_once=True).code == "sql_error"
    assert count(step) == 0
    step.run("insert into t values (1)", exactly_once=True)
    assert count(step) == 1


def test_an_effect_that_is_only_noted_is_skipped(step: Step) -> None:
    step.run("select 1", exactly_once=True, node="other")
    step.run("insert into noetl_effects (key) values ('e1:s')")
    assert step.run("insert into t values (1)", exactly_once=True) == {"status": "skipped"} and count(step) == 0


def test_a_result_that_cannot_be_stored_is_found_before_the_commit(step: Step) -> None:
    failure = step.fails('insert into t values (1); select \'{"a": "\\u0000"}\'::json as j', exactly_once=True)
    assert failure.code == "output_invalid" and count(step) == 0


@pytest.mark.parametrize("attempts", [6])
def test_attempts_at_once_do_it_once(step: Step, attempts: int) -> None:
    """Also where the table is not there yet."""
    at_once = threading.Barrier(attempts)
    told: list[object] = []

    def attempt() -> None:
        at_once.wait(5)
        told.append(
            step.run("insert into t select 1 from pg_sleep(0.1); select txid_current() as id", exactly_once=True)
        )

    threads = [threading.Thread(target=attempt) for _ in range(attempts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(told) == attempts and all(one == told[0] for one in told) and count(step) == 1


def test_it_is_done_again_when_the_first_attempt_was_killed_before_its_commit(step: Step, tmp_path: Path) -> None:
    other = Step(step_socket(), tmp_path)
    thread = threading.Thread(
        target=lambda: other.fails("insert into t values (1); select pg_sleep(60)", exactly_once=True, timeout=60)
    )
    thread.start()
    sleeping = (
        "from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid() and state = 'active'"
    )
    deadline = time.monotonic() + 5
    while not step.value(f"select count(*) {sleeping}") and time.monotonic() < deadline:
        pass
    step.run(f"select pg_terminate_backend(pid) {sleeping}")
    thread.join(5)
    step.run("insert into t values (2)", exactly_once=True)
    assert step.value("select json_agg(a) from t") == [2]


def test_a_changed_search_path_does_not_hide_the_table(step: Step) -> None:
    text = "set search_path = pg_catalog; insert into public.t values (1)"
    step.run(text, exactly_once=True)
    step.run(text, exactly_once=True)
    assert count(step) == 1


def test_a_role_that_may_not_make_the_table_is_told(step: Step) -> None:
    step.run(f"create schema if not exists closed; alter role {ROLE} set search_path = nowhere, public")
    step.action.close()
    try:
        step.run("alter schema public rename to elsewhere")
        failure = step.fails("select 1", exactly_once=True)
        assert failure.code == "sql_error" and str(failure).startswith("exactly_once: ")
    finally:
        step.run(f"alter schema elsewhere rename to public; alter role {ROLE} reset search_path; drop schema closed")
        step.action.close()


@pytest.mark.parametrize("arguments", [{"transaction": "per_statement"}, {"on_statement_error": "continue"}])
def test_it_is_one_transaction(step: Step, arguments: dict[str, str]) -> None:
    assert step.fails("select 1", exactly_once=True, **arguments).code == "arguments_invalid"
    assert "may not begin or end" in str(step.fails("commit; insert into t values (1)", exactly_once=True))
    step.run("select 1", exactly_once=True, transaction="all")
