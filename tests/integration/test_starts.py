"""What a start costs, and that what was left out of it is not missed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import Group, User
from django.db import OperationalError, close_old_connections, connection

from executions.api import (
    evaluate_execution,
    find_fold_difference,
    get_execution,
    list_events,
    rerun_execution,
    start_execution,
)
from executions.domain import planner
from executions.models import Execution
from executors import broker
from executors.selectors import find_violations
from executors.tasks import run_jobs
from noetl_site.access.lookup import find_in_use
from noetl_site.access.tokens import create_token
from noetl_site.models import ApiToken
from tests.support.api import Api, admin_api, api_as
from tests.support.books import CHAIN, start
from tests.support.counting import counted

pytestmark = pytest.mark.usefixtures("fresh_db")

IN_A_START = 5
"""Pin the version, take an id, insert the execution, write its events and jobs, save its state and commit."""
IN_A_REQUEST = IN_A_START + 2
"""The token before, the execution's row for the answer after it."""


def round_trips(work: Callable[[], Any]) -> int:
    """How often the database is asked."""
    with counted() as asked:
        work()
    return asked.round_trips


def test_a_start_asks_the_database_as_often_as_it_must(settings: Any) -> None:
    # What waits is counted every two seconds, by whichever start comes then.
    settings.NOETL_MAX_QUEUED_JOBS = 0
    start(CHAIN)
    assert round_trips(lambda: start_execution("tests/chain")) == IN_A_START


def test_a_request_for_a_start_asks_twice_more(settings: Any) -> None:
    settings.NOETL_MAX_QUEUED_JOBS = 0
    api = admin_api()
    api.run()
    body = {"path": "tests/chain"}
    assert api.post("executions/run", body).status_code == 201
    assert round_trips(lambda: api.post("executions/run", body)) == IN_A_REQUEST


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_a_token_in_use_is_found_with_what_its_user_may_do(role: str) -> None:
    user = User.objects.create_user("u")
    user.groups.set(Group.objects.filter(name=role))
    token = create_token(user, "t", ["operator"])
    assert find_in_use(token, 60) is None
    assert Api(token).get("schema").status_code == 200
    known = find_in_use(token, 60)
    assert known is not None
    found, stored = known
    assert found.get_all_permissions() == User.objects.get().get_all_permissions()
    assert (found.pk, found.username, found.is_staff) == (user.pk, "u", False)
    row = ApiToken.objects.get()
    assert (stored.pk, stored.id, stored.name, stored.scopes) == (row.pk, row.id, "t", ["operator"])
    assert (stored.last_used_at, stored.created, stored.expiry) == (row.last_used_at, row.created, None)
    ApiToken.objects.all().delete()
    assert find_in_use(token, 60) is None


def test_what_a_token_may_do_ends_at_once() -> None:
    api = api_as("operator", name="etl")
    for _ in range(2):
        assert api.get("executions").status_code == 200
    User.objects.get(username="etl").groups.clear()
    assert api.get("executions").status_code == 403
    User.objects.update(is_active=False)
    assert api.get("executions").status_code == 401


def test_a_start_survives_a_broken_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the evaluator is broken")

    with monkeypatch.context() as patch:
        patch.setattr(planner, "_settle", break_down)
        execution_id = start(CHAIN, idempotency_key="k")
    row = Execution.objects.get(id=execution_id)
    assert row.needs_evaluation_since is not None
    assert "the evaluator is broken" in row.evaluation_error
    assert [event.event_type for event in list_events(execution_id)] == ["execution_start"]
    assert start(CHAIN, idempotency_key="k") == execution_id
    assert evaluate_execution(execution_id)
    assert get_execution(execution_id).status == "running"
    assert find_violations() == []


@pytest.mark.parametrize("override", [["one"], {"one": {"n": 1e22, "zz": 1, "b": 2}}])
def test_what_a_start_carries_is_planned_as_the_log_has_it(override: Any) -> None:
    first = start(CHAIN, {"steps_override": override, "zz": 1, "a": 2})
    again = rerun_execution(first, failed_only=True)
    for id_ in (first, again):
        assert get_execution(id_).status == "running"
        assert find_fold_difference(id_) == ""
    assert find_violations() == []


def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    close_old_connections()
    start(CHAIN)
    raw: Any = connection.connection
    # From another connection of the same role: nobody else may.
    with raw.connect(raw.info.dsn, password=raw.info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [raw.info.backend_pid])
    close_old_connections()
    start_execution("tests/chain")
    assert connection.connection is not raw


def test_a_server_that_goes_away_between_two_statements_is_an_operational_error() -> None:
    start(CHAIN)
    raw: Any = connection.connection
    with raw.connect(raw.info.dsn, password=raw.info.password, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [raw.info.backend_pid])
    with pytest.raises(OperationalError, match="connection"):
        start_execution("tests/chain")
    connection.close()


def test_a_worker_keeps_its_connection_from_task_to_task() -> None:
    start(CHAIN)
    raw = connection.connection
    app: Any = current_app
    [fixup] = app._get_current_object()._fixups
    fixup.worker_fixup.on_task_prerun(run_jobs)
    fixup.worker_fixup.on_task_postrun(run_jobs)
    start_execution("tests/chain")
    assert connection.connection is raw


def test_a_message_is_what_celery_would_send(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(broker, "_push", lambda queue, message: sent.append((queue, json.loads(message))))
    for _ in range(2):
        assert broker.send("executors.tasks.run_jobs", "noetl.gpu", {"pool": "gpu"})
    (queue, one), (_, two) = sent
    assert queue == "noetl.gpu"
    assert (one["headers"]["task"], one["content-type"]) == ("executors.tasks.run_jobs", "application/json")
    assert json.loads(base64.b64decode(one["body"]))[:2] == [[], {"pool": "gpu"}]
    assert one["properties"]["delivery_info"] == {"exchange": "", "routing_key": "noetl.gpu"}
    ids = {message["headers"]["id"] for message in (one, two)}
    assert len(ids) == 2 and broker._SOME_ID not in ids
    assert one["headers"]["id"] == one["properties"]["correlation_id"]
