"""What operators do in the console: only with the permission, only after a question, only through the services."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from executions.api import cancel_execution
from executions.models import EventLog, Execution
from executors.selectors import find_violations
from queueing.models import Job
from tests.support.books import CHAIN, lease, report, start
from tests.support.people import log_in

pytestmark = pytest.mark.usefixtures("fresh_db")

SEE_EXECUTIONS = "executions.view_execution"
CANCEL = "executions.cancel_execution"
SEE_JOBS = "queueing.view_job"
REPAIR = "queueing.repair_job"
YES = {"_form_submitted": "True"}


def at(row: Any, name: str) -> str:
    """The address of an action on a row's page."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])


def page_of(row: Any) -> str:
    return at(row, "change")


def choose(client: Client, model: Any, action: str, *rows: Any, **answers: str) -> Any:
    """Run an action of the list on these rows."""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return client.post(
        address, {"action": action, "_selected_action": [row.pk for row in rows], **answers}, follow=True
    )


def status_of(row: Any) -> str:
    row.refresh_from_db()
    return str(row.status)


def dead_external_job() -> Job:
    execution_id = start(CHAIN)
    return Job.objects.create(
        execution_id=execution_id, kind="python", action={}, uuid=uuid.uuid4(), origin="external", status="dead",
        node_id=f"{execution_id}:aside", node_name="aside", lost_leases=5,
    )  # fmt: skip


def test_an_execution_is_cancelled_after_a_question_with_a_reason() -> None:
    client = log_in(SEE_EXECUTIONS, CANCEL)
    execution = Execution.objects.get(id=start(CHAIN))
    assert at(execution, "cancel") in client.get(page_of(execution)).content.decode()
    asked = client.get(at(execution, "cancel"))
    assert "Cancel this execution?" in asked.content.decode()
    unexplained = client.post(at(execution, "cancel"), YES)
    assert "This field is required" in unexplained.content.decode()
    assert status_of(execution) == "running"

    done = client.post(at(execution, "cancel"), {**YES, "reason": "too slow"})
    assert done["HX-Redirect"] == page_of(execution)
    assert status_of(execution) == "cancelled"
    event = EventLog.objects.get(event_type="execution_cancelled")
    assert event.meta == {"reason": "too slow", "by": "ada"}
    kept = LogEntry.objects.get()
    assert (kept.object_id, kept.change_message) == (str(execution.pk), "cancelled: too slow")
    page = client.get(page_of(execution)).content.decode()
    assert f"Execution {execution.pk} of tests/chain is cancelled." in page
    assert at(execution, "cancel") not in page
    assert find_violations() == []


def test_the_question_alone_changes_nothing() -> None:
    client = log_in(SEE_EXECUTIONS, CANCEL)
    execution = Execution.objects.get(id=start(CHAIN))
    events = EventLog.objects.count()
    client.get(at(execution, "cancel"), {**YES, "reason": "by GET"})
    asked = choose(client, Execution, "cancel_chosen", execution)
    assert "Cancel each chosen execution?" in asked.content.decode()
    assert status_of(execution) == "running"
    assert EventLog.objects.count() == events


def test_chosen_executions_are_cancelled_each_by_itself() -> None:
    client = log_in(SEE_EXECUTIONS, CANCEL)
    first, second, third = (Execution.objects.get(id=start(CHAIN)) for _ in range(3))
    cancel_execution(second.pk)
    done = choose(client, Execution, "cancel_chosen", first, second, **YES, reason="cleaning up")
    told = [str(message) for message in done.context["messages"]]
    assert sorted(told) == [
        f"Execution {first.pk} of tests/chain is cancelled.",
        f"Execution {second.pk} of tests/chain had ended already.",
    ]
    assert [status_of(row) for row in (first, second, third)] == ["cancelled", "cancelled", "running"]
    assert find_violations() == []


def test_all_pages_at_once_are_never_chosen() -> None:
    client = log_in(SEE_EXECUTIONS, CANCEL)
    first, second = (Execution.objects.get(id=start(CHAIN)) for _ in range(2))
    choose(client, Execution, "cancel_chosen", first, **YES, reason="all of them", select_across="1")
    assert [status_of(row) for row in (first, second)] == ["cancelled", "running"]


def test_a_lease_is_released() -> None:
    client = log_in(SEE_JOBS, REPAIR)
    start(CHAIN)
    [held] = lease("slow")
    job = Job.objects.get(id=held.id)
    page = client.get(page_of(job)).content.decode()
    assert at(job, "release") in page
    assert at(job, "requeue") not in page
    assert client.post(at(job, "release"), YES)["HX-Redirect"] == page_of(job)
    assert status_of(job) == "queued"
    assert report(held, {"n": 1}) == "lease_lost"
    assert at(job, "release") not in client.get(page_of(job)).content.decode()
    again = choose(client, Job, "release_chosen", job, **YES)
    assert "was not leased any more." in str(*again.context["messages"])
    assert EventLog.objects.filter(event_type="lease_lost", meta__by="ada").count() == 1
    assert find_violations() == []


def test_a_dead_job_is_queued_again_or_told_why_not() -> None:
    client = log_in(SEE_JOBS, REPAIR)
    external = dead_external_job()
    step = Job.objects.get(node_name="one")
    Job.objects.filter(id=step.id).update(status="dead")
    done = choose(client, Job, "requeue_chosen", external, step, **YES)
    told = " ".join(str(message) for message in done.context["messages"])
    assert "aside is queued again." in told
    assert "start the playbook again" in told
    assert (status_of(external), status_of(step)) == ("queued", "dead")
    client.post(at(step, "requeue"), YES)
    assert status_of(step) == "dead"
    assert LogEntry.objects.count() == 1


def test_without_the_permission_nothing_is_offered_and_nothing_answers() -> None:
    client = log_in(SEE_EXECUTIONS, SEE_JOBS)
    execution = Execution.objects.get(id=start(CHAIN))
    [held] = lease()
    job = Job.objects.get(id=held.id)
    dead = dead_external_job()
    for row, name in ((execution, "cancel"), (job, "release"), (dead, "requeue")):
        assert at(row, name) not in client.get(page_of(row)).content.decode()
        listed = client.get(reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_changelist"))
        assert f"{name}_chosen" not in listed.content.decode()
        answers = [client.get(at(row, name)), client.post(at(row, name), {**YES, "reason": "x"})]
        assert [answer.status_code for answer in answers] == [403, 403]
        choose(client, type(row), f"{name}_chosen", row, **YES, reason="x")
    assert (status_of(execution), status_of(job), status_of(dead)) == ("running", "leased", "dead")


def test_one_permission_does_not_open_the_other() -> None:
    client = log_in(SEE_EXECUTIONS, SEE_JOBS, CANCEL)
    start(CHAIN)
    [held] = lease()
    job = Job.objects.get(id=held.id)
    assert client.post(at(job, "release"), YES).status_code == 403
    assert status_of(job) == "leased"


def test_acting_needs_to_see() -> None:
    client = log_in(CANCEL)
    execution = Execution.objects.get(id=start(CHAIN))
    assert client.post(at(execution, "cancel"), {**YES, "reason": "x"}).status_code == 403


def test_nobody_acts_without_a_login_or_a_csrf_token() -> None:
    execution = Execution.objects.get(id=start(CHAIN))
    assert Client().post(at(execution, "cancel"), {**YES, "reason": "x"}).status_code == 302
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = log_in(superuser=True).cookies
    assert strict.post(at(execution, "cancel"), {**YES, "reason": "x"}).status_code == 403
    assert status_of(execution) == "running"


@pytest.mark.parametrize("key", ["1", "abc", "9" * 40])
def test_an_action_on_nothing_is_not_found(key: str) -> None:
    client = log_in(superuser=True)
    for name in ("executions_execution_cancel", "queueing_job_release", "queueing_job_requeue"):
        answer = client.post(reverse(f"admin:{name}", args=[key]), {**YES, "reason": "x"})
        assert answer.status_code == 404
