"""The console's pages: all answer, none changes what the engine wrote, none shows more than its user may see."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from executions.api import LogLine, Report, report_results
from executions.models import EventLog, Execution
from executors.models import Credential, Runtime
from noetl_site.access.tokens import create_token, ensure_service_account
from noetl_site.console import columns, values
from noetl_site.console.site import SHOWN_ONLY
from noetl_site.models import ApiToken
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, FAN, failure, lease, report, start, success, work_off
from tests.support.people import log_in

pytestmark = pytest.mark.usefixtures("fresh_db")

PAGES = [model for model in admin.site._registry if model._meta.app_label in SHOWN_ONLY]
SECRETS = ("lease_token", "accepted_token", "data_encrypted")


def stem(model: Any) -> str:
    return f"admin:{model._meta.app_label}_{model._meta.model_name}"


def list_of(model: Any, **query: Any) -> str:
    return reverse(f"{stem(model)}_changelist", query=query or None)


def page_of(row: Any) -> str:
    return reverse(f"{stem(type(row))}_change", args=[row.pk])


def shown(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def statements(client: Client, address: str) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        shown(client, address)
    return [query["sql"] for query in captured.captured_queries]


@pytest.fixture
def console() -> Client:
    return log_in(superuser=True)


def test_every_table_of_the_platform_has_a_page() -> None:
    names = {model._meta.db_table for model in PAGES}
    assert names == {"catalog", "execution", "event_log", "queue", "lease_history", "runtime", "credential"}


@pytest.mark.parametrize("model", PAGES)
def test_lists_and_pages_answer_and_change_nothing(model: Any, console: Client) -> None:
    start(CHAIN)
    start(FAN)
    for job in lease(count=3):
        report(job, {"n": 1})
    Runtime.objects.create(name="w", component_type="worker_pool")
    Credential.objects.create(name="c", type="postgres", data_encrypted="cipher-text")
    row = model.objects.first()
    hidden = [str(getattr(row, name)) for name in SECRETS if getattr(row, name, None)]
    for address in (list_of(model), page_of(row)):
        text = shown(console, address)
        assert not [secret for secret in hidden if secret in text]
    assert console.get(reverse(f"{stem(model)}_add")).status_code == 403
    assert console.post(page_of(row), {"status": "x"}).status_code == 403
    assert console.post(reverse(f"{stem(model)}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    ("model", "field"),
    [(Job, "lease_token"), (Job, "accepted_token"), (LeaseHistory, "lease_token"), (Credential, "data_encrypted")],
)
def test_what_is_hidden_cannot_be_asked_for(model: Any, field: str, console: Client) -> None:
    assert console.get(list_of(model, **{f"{field}__gt": "a"})).status_code == 400


@pytest.mark.parametrize(("labels", "told"), [({"python_isolation": "bwrap"}, True), ({}, False), (["bwrap-2"], False)])
def test_a_workers_isolation_is_shown(labels: Any, told: bool, console: Client) -> None:
    row = Runtime.objects.create(name="w", component_type="worker_pool", labels=labels)
    assert (">bwrap<" in "".join(shown(console, list_of(Runtime)).split())) == told
    assert ("Python isolation" in shown(console, page_of(row))) == told, "a page leaves out what is empty"


def test_searching_answers(console: Client) -> None:
    start(CHAIN)
    for model in PAGES:
        for text in ("chain", "12345", "'\"; --", "9" * 40, "5:\x01", "٣"):
            assert console.get(list_of(model, q=text)).status_code == 200, (model, text)


def test_events_are_found_by_execution_and_by_node(console: Client) -> None:
    first, second = start(CHAIN), start(CHAIN)

    def found(text: str) -> set[tuple[int, str]]:
        rows = console.get(list_of(EventLog, q=text)).context["cl"].result_list
        return {(row.execution_id, row.node_id) for row in rows}

    assert found(f"{first}:one") == {(first, f"{first}:one")}
    assert {execution_id for execution_id, _ in found(str(second))} == {second}
    assert "Nothing matches" in shown(console, list_of(EventLog, q="one"))


def test_nobody_enters_without_a_login() -> None:
    for model in PAGES:
        answer = Client().get(list_of(model))
        assert answer.status_code == 302
        assert "/login/" in answer["Location"]


@pytest.mark.parametrize("model", PAGES)
def test_empty_lists_say_what_fills_them(model: Any, console: Client) -> None:
    page: Any = admin.site._registry[model]
    text = shown(console, list_of(model))
    assert page.empty_text in text
    assert "Show all" not in text


def test_links_lead_both_ways(console: Client) -> None:
    execution = Execution.objects.get(id=start(CHAIN))
    work_off(lambda job: {"n": 1})
    job = Job.objects.first()
    held = LeaseHistory.objects.get(job_id=job.pk)  # type: ignore[union-attr]  # there is one
    event = EventLog.objects.filter(node_name="one").first()
    version = reverse("admin:catalog_playbookversion_change", args=[execution.playbook_version_id])
    ways: list[tuple[str, Any]] = [
        (version, execution), (page_of(execution), job), (page_of(execution), event), (page_of(event), execution),
        (page_of(job), execution), (page_of(job), held), (page_of(held), job), (page_of(held), execution),
    ]  # fmt: skip
    for address, target in ways:
        assert f'href="{page_of(target)}"' in shown(console, address)
    for model in (Execution, EventLog, Job, LeaseHistory):
        assert "text-link" in shown(console, list_of(model))
    assert f'href="{version}"' in shown(console, page_of(execution))
    assert f'href="{version}"' in shown(console, list_of(Execution))


def test_links_and_panels_need_the_permission_to_see_what_they_lead_to() -> None:
    execution = Execution.objects.get(id=start(CHAIN))
    client = log_in("executions.view_execution")
    text = shown(client, page_of(execution))
    assert "tests/chain" in text
    for hidden in ("playbookversion", "Latest events", "All jobs of this execution"):
        assert hidden not in text
    overview = shown(client, reverse("admin:index"))
    assert "Newest executions" in overview
    assert "Jobs of the last 24 hours" not in overview
    assert "Live worker" not in overview
    assert "/admin/executions/execution/" in overview
    for other in ("/admin/queueing/job/", "/admin/auth/user/", "/admin/executors/credential/"):
        assert other not in overview
    assert client.get(list_of(Job)).status_code == 403


def test_a_user_without_permissions_is_told(console: Client) -> None:
    start(CHAIN)
    text = shown(log_in(), reverse("admin:index"))
    assert "may not see anything here yet" in text
    assert "tests/chain" not in text


def test_the_overview_counts_what_is_there(console: Client) -> None:
    assert "manage.py run examples/hello.yaml" in shown(console, reverse("admin:index"))
    start(CHAIN)
    failed = start(FAN)
    [first] = [job for job in lease(count=2) if job.execution_id == failed]
    report_results(failed, [failure(first)])
    context = console.get(reverse("admin:index")).context
    executions, jobs, workers = context["rows"]
    assert [(card.count, "running" in card.pill) for card in executions.cards] == [(2, True)]
    assert [card.count for card in jobs.cards] == [4, 1, 1]
    assert workers.cards == []
    assert "No worker is live" in shown(console, reverse("admin:index"))
    for card in (*executions.cards, *jobs.cards):
        assert console.get(card.address).context["cl"].result_count == card.count


def test_a_failure_is_told_in_words(console: Client) -> None:
    execution_id = start(FAN)
    jobs = lease(count=5)
    reports: list[Any] = [success(job, 1) for job in jobs]
    reports[3] = failure(jobs[3], "the shelf <b>fell</b>")
    report_results(execution_id, reports)
    text = shown(console, page_of(Execution.objects.get()))
    assert "Step each failed: 1 of 5 items failed" in text
    assert "Item 3: the shelf &lt;b&gt;fell&lt;/b&gt; (test)" in text
    assert "4 done, 1 failed, 5 in all" in text


def test_a_lease_that_has_not_ended_is_called_held(console: Client) -> None:
    start(CHAIN)
    lease()
    for address in (list_of(LeaseHistory), page_of(LeaseHistory.objects.get())):
        assert "held" in shown(console, address)


@pytest.mark.parametrize(("result", "text"), [(False, "false"), (0, "0")])
def test_a_result_that_is_false_is_still_a_result(result: Any, text: str, console: Client) -> None:
    start(CHAIN)
    [job] = lease()
    report(job, result)
    event = EventLog.objects.get(event_type="action_completed")
    assert f'<pre class="console-code">{text}</pre>' in shown(console, page_of(event))


def said(job: Any, *texts: str) -> Report:
    lines = [LogLine("2026-01-02T03:04:05.678+00:00", "printed", "info", text) for text in texts]
    return Report(job.fence, "success", {"n": 1}, log=lines)


def test_an_executions_log_is_shown_and_narrowed_to_a_step(console: Client) -> None:
    execution = Execution.objects.get(id=start(CHAIN))
    assert "No action has printed or logged anything." in shown(console, page_of(execution))
    for text in ("<b>one</b>", "line of two"):
        [job] = lease()
        report_results(execution.id, [said(job, text)])
    whole, narrow = (shown(console, page_of(execution) + query) for query in ("", "?step=two"))
    assert "&lt;b&gt;one&lt;/b&gt;" in whole and "line of two" in whole and "03:04:05.678" in whole
    assert "&lt;b&gt;one" not in narrow and "line of two" in narrow
    assert f'href="{page_of(execution)}?step=one#log"' in whole
    assert "line of two" in shown(console, page_of(execution) + "?step=nothing")
    stranger = log_in("executions.view_execution")
    assert "line of two" not in shown(stranger, page_of(execution))


def test_a_long_log_shows_its_end_and_says_so(console: Client, settings: Any) -> None:
    execution = Execution.objects.get(id=start(FAN))
    first, second, third = lease(count=3)
    report_results(execution.id, [said(first, *(f"line {number}." for number in range(250)))])
    settings.NOETL_LOG_BYTES_PER_EXECUTION = 1
    report_results(execution.id, [said(second, "dropped"), said(third, "dropped")])
    text = shown(console, page_of(execution))
    assert "line 249." in text and "line 50." in text and "line 49." not in text
    assert "The newest 200 lines" in text and "2 lines were dropped" in text


def test_values_are_escaped_indented_and_cut() -> None:
    assert values.show_json({"a": "</pre><script>"}) == (
        '<pre class="console-code">{\n  &quot;a&quot;: &quot;&lt;/pre&gt;&lt;script&gt;&quot;\n}</pre>'
    )
    long = values.show_code("é" * (values.MAX_CHARACTERS + 1234))
    assert "1,234 more characters" in long
    assert long.count("é") == values.MAX_CHARACTERS


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"), (0.0, "0 ms"), (0.12, "120 ms"), (0.9999, "1.0 s"), (4.2, "4.2 s"), (59.97, "1 min"),
        (60, "1 min"), (184, "3 min 4 s"), (3600, "1 h"), (3725, "1 h 2 min"), (190_800, "2 d 5 h"),
    ],
)  # fmt: skip
def test_durations_are_told_in_units_that_matter(seconds: float | None, words: str) -> None:
    assert values.describe_duration(seconds) == words


def test_times_say_that_they_are_utc(console: Client) -> None:
    execution = Execution.objects.get(id=start(CHAIN))
    told = f"{execution.created_at:%Y-%m-%d %H:%M:%S} UTC"
    for address in (list_of(Execution), page_of(execution), reverse("admin:index")):
        assert told in shown(console, address)


def test_more_rows_cost_no_more_statements(console: Client) -> None:
    def measure(items: int) -> dict[str, int]:
        execution_id = start(FAN, {"items": list(range(items))})
        work_off(lambda job: 1, batch=items)
        execution = Execution.objects.get(id=execution_id)
        job = Job.objects.filter(execution_id=execution_id).first()
        pages = {str(model): list_of(model) for model in PAGES}
        return {
            name: len(statements(console, address))
            for name, address in {
                **pages,
                "execution": page_of(execution),
                "job": page_of(job),
                "version": reverse("admin:catalog_playbookversion_change", args=[execution.playbook_version_id]),
                "index": reverse("admin:index"),
            }.items()
        }

    # The first pages of a process ask for what it keeps: content types.
    measure(1)
    few = measure(2)
    assert measure(40) == few
    assert max(few.values()) <= 15


def test_huge_tables_are_not_counted_to_their_end(console: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns.BoundedPaginator, "most", 3)
    start(FAN)
    lease(count=5)
    for model in (Execution, EventLog, Job, LeaseHistory):
        asked = statements(console, list_of(model)) + statements(console, list_of(model, _facets="True"))
        counts = [sql for sql in asked if "COUNT(" in sql]
        assert counts
        assert all("LIMIT 4" in sql for sql in counts), counts
    assert "more than 3: search or filter" in shown(console, list_of(EventLog))
    execution = shown(console, list_of(Execution))
    assert "1 in all" in execution


def test_rows_are_chosen_by_when_they_came(console: Client) -> None:
    recent = start(CHAIN)
    old = Execution.objects.get(id=recent)
    old.pk = 5
    old.save()
    assert "1 in all" in shown(console, list_of(Execution, when="hour"))
    assert "2 in all" in shown(console, list_of(Execution))
    assert "2 in all" in shown(console, list_of(Execution, when="nonsense"))


def test_a_page_of_nothing_is_not_there(console: Client) -> None:
    for model in PAGES:
        for key in ("1", "abc", "9" * 40):
            answer = console.get(reverse(f"{stem(model)}_change", args=[key]))
            assert answer.status_code == 302, (model, key)


def test_tokens_are_listed_by_their_beginning_and_ended_in_the_console(console: Client) -> None:
    token = create_token(ensure_service_account("etl", ["worker"]), "nightly")
    row = ApiToken.objects.get()
    listed = shown(console, list_of(ApiToken))
    assert "nightly" in listed and row.token_key in listed and token not in listed
    assert console.get(reverse("admin:noetl_site_apitoken_add")).status_code == 403
    assert "nightly" in shown(console, page_of(row))
    assert console.post(page_of(row), {"name": "other"}).status_code == 403
    console.post(reverse("admin:noetl_site_apitoken_delete", args=[row.pk]), {"post": "yes"})
    assert not ApiToken.objects.exists()
    assert log_in("executions.view_execution").get(list_of(ApiToken)).status_code == 403
