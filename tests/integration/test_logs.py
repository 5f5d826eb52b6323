"""What actions print and log, on a real database: kept with the report, while a job runs, bounded, read again."""

from __future__ import annotations

import json
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from executions import store
from executions.api import LogLine, Report, append_log, get_execution, query_log, report_results
from executions.domain.lines import JobLines
from executions.models import ActionLog, ActionLogTotal
from executors.actions.python import PythonAction
from executors.contract import ActionKind
from executors.selectors import find_violations
from executors.services import resolve_credential, save_credential
from executors.worker.gateway import DatabaseGateway
from executors.worker.heartbeat import LeaseKeeper
from executors.worker.turn import TurnBounds, Worker
from noetl_site.database.prepared import PreparedStatements
from queueing.api import LeasedJob, LeaseLost, release_jobs
from tests.support.books import CHAIN, FAN, lease, report, start, success, work_off

pytestmark = pytest.mark.usefixtures("fresh_db")

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: told\npath: tests/told\nworkflow:\n"
PRINTS = (
    HEAD
    + """
  - step: start
    next: each
  - step: each
    type: python
    loop: {in: [1, 2, 3], iterator: n}
    with: {n: "{{ n }}"}
    code: |
      def main(n):
          print(f"item {n}")
          if n == 2:
              logger.error("two is bad")
          return n
    next: quiet
  - step: quiet
    type: python
    code: "def main(): return 1"
    next: loud
  - step: loud
    type: python
    with: {key: "{{ secret.vault }}"}
    code: |
      def main(key):
          print("the key is", key)
          raise ValueError(key)
"""
)


def line(text: str, level: Any = "info") -> LogLine:
    return LogLine("2026-01-02T03:04:05+00:00", "printed", level, text)


def said(job: LeasedJob, *texts: str) -> Report:
    return Report(fence=job.fence, status="success", log=[line(text) for text in texts])


def told(execution_id: int, **asked: Any) -> list[str]:
    return [row.text for row in query_log(execution_id, **asked)]


def python_worker(kinds: dict[str, ActionKind]) -> Worker:
    gateway = DatabaseGateway()
    keeper = LeaseKeeper(gateway, 60)
    return Worker(
        "w1", gateway, kinds, keeper, lambda job, name: resolve_credential(name, job.execution_id), Path(), 60
    )


@pytest.fixture(autouse=True)
def nothing_violated(fresh_db: None) -> Any:
    yield
    assert find_violations() == []


def test_lines_come_with_the_report_and_say_whose_they_are() -> None:
    execution_id = start(FAN)
    first, second = lease(count=2)
    assert report_results(execution_id, [said(first, "a", "b"), said(second, "c")]) == ["accepted"] * 2
    rows = [
        (row.seq, row.text, row.node_id, row.step, row.attempt, row.item_index, row.stream, row.level)
        for row in query_log(execution_id)
    ]
    assert rows == [
        (1, "a", f"{execution_id}:each:0", "each", 1, 0, "printed", "info"),
        (2, "b", f"{execution_id}:each:0", "each", 1, 0, "printed", "info"),
        (3, "c", f"{execution_id}:each:1", "each", 1, 1, "printed", "info"),
    ]
    assert query_log(execution_id).get(seq=1).at.isoformat() == "2026-01-02T03:04:05+00:00"


def test_a_job_that_logs_nothing_costs_no_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = PreparedStatements.ask

    def ask(self: Any, name: str, sql: str, parameters: Any) -> Any:
        asked.append(name)
        return real(self, name, sql, parameters)

    execution_id = start(FAN)
    quiet, loud = lease(count=2)
    monkeypatch.setattr(PreparedStatements, "ask", ask)
    report_results(execution_id, [success(quiet)])
    without = list(asked)
    asked.clear()
    report_results(execution_id, [said(loud, "a", "b")])
    assert "executions.append_lines" not in without
    assert sorted(asked) == sorted([*without, "executions.append_lines"]), "one more, whatever is logged"


def test_a_report_under_a_lost_lease_and_a_repeated_one_log_nothing() -> None:
    execution_id = start(FAN)
    lost, kept = lease(count=2)
    release_jobs([lost.fence])
    assert report_results(execution_id, [said(lost, "zombie"), said(kept, "once")]) == ["lease_lost", "accepted"]
    assert report_results(execution_id, [said(kept, "twice")]) == ["already_accepted"]
    assert told(execution_id) == ["once"]


def test_a_running_job_is_heard_while_it_holds_its_lease() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    append_log(job.fence, [line("first")])
    assert told(execution_id) == ["first"]
    report_results(execution_id, [said(job, "last")])
    assert told(execution_id) == ["first", "last"]
    with pytest.raises(LeaseLost):
        append_log(job.fence, [line("too late")])
    assert told(execution_id) == ["first", "last"]


def test_what_an_execution_logs_is_bounded_and_the_rest_is_counted(settings: Any) -> None:
    settings.NOETL_LOG_BYTES_PER_EXECUTION = 150
    execution_id = start(FAN)
    other = start(FAN)
    jobs = [job for job in lease(count=9) if job.execution_id == execution_id]
    for number, job in enumerate(jobs[:4]):
        report_results(execution_id, [said(job, f"line {number}")])
    append_log(jobs[4].fence, [line("x"), line("y")])
    assert told(execution_id) == ["line 0", "line 1", "line 2"]
    total = ActionLogTotal.objects.get(execution_id=execution_id)
    assert (total.lines, total.dropped) == (3, 3)
    [job] = [job for job in lease(count=9) if job.execution_id == other][:1]
    report_results(other, [said(job, "has room")])
    assert told(other) == ["has room"]


def test_whoever_reads_on_from_a_number_misses_no_line() -> None:
    """A line that is numbered first is committed first, though its transaction takes longer."""
    execution_id = start(FAN)
    slow, quick = lease(count=2)
    numbered, go_on = threading.Event(), threading.Event()

    def append_slowly() -> None:
        try:
            with transaction.atomic():
                append_log(slow.fence, [line("slow")])
                # Something that is waited for, so that what was asked for before has been sent.
                assert query_log(execution_id).count() == 1
                numbered.set()
                go_on.wait(10)
        finally:
            connection.close()

    def append_quickly() -> None:
        try:
            append_log(quick.fence, [line("quick")])
        finally:
            connection.close()

    threads = [threading.Thread(target=append_slowly), threading.Thread(target=append_quickly)]
    threads[0].start()
    assert numbered.wait(10)
    threads[1].start()
    threads[1].join(0.3)
    assert threads[1].is_alive() and told(execution_id) == [], "the second waits for the first"
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert told(execution_id) == ["slow", "quick"]


def test_lines_are_never_changed_and_the_application_may_not_delete_them() -> None:
    execution_id = start(CHAIN)
    report_results(execution_id, [said(lease()[0], "a")])
    for change in (lambda: ActionLog.objects.update(text="b"), lambda: ActionLog.objects.all().delete()):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()
    with connection.cursor() as cursor, pytest.raises(DatabaseError), transaction.atomic():
        cursor.execute("TRUNCATE action_log")
    assert told(execution_id) == ["a"]


def test_prints_of_real_steps_are_kept_and_secrets_are_not() -> None:
    save_credential("vault", "generic", {"value": "v4ult-s3cret"})
    kinds: dict[str, ActionKind] = {"python": PythonAction()}
    worker = python_worker(kinds)
    try:
        execution_id = start(PRINTS)
        worker.run_turn(["default"], TurnBounds())
    finally:
        worker.close()
    assert get_execution(execution_id).error["message"] == "ValueError: ***"
    rows = [(row.step, row.item_index, row.stream, row.level, row.text) for row in query_log(execution_id)]
    assert sorted(rows[:-1]) == [
        ("each", 0, "printed", "info", "item 1"),
        ("each", 1, "logged", "error", "two is bad"),
        ("each", 1, "printed", "info", "item 2"),
        ("each", 2, "printed", "info", "item 3"),
    ]
    assert rows[-1] == ("loud", None, "printed", "info", "the key is ***")


# -- reading --------------------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("executions", "logs", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_prints_lines_of_a_step_as_text_and_as_json() -> None:
    execution_id = start(CHAIN)
    work_off(lambda job: {"n": 1})
    report_results(start(FAN), [said(lease()[0], "other")])
    append_to(execution_id, "one", line("\x1b[2Jhello"), line("bad", "error"))
    append_to(execution_id, "two", line("bye"))
    assert command(str(execution_id)) == (
        "03:04:05.000000 one | \\x1b[2Jhello\n03:04:05.000000 one | ERROR bad\n03:04:05.000000 two | bye\n"
    )
    [only] = command(str(execution_id), "--step", "two", "--json").splitlines()
    assert json.loads(only) == {
        "execution_id": str(execution_id), "seq": 3, "timestamp": "2026-01-02T03:04:05+00:00",
        "node_id": f"{execution_id}:two", "step": "two", "attempt": 1, "index": None, "stream": "printed",
        "level": "info", "text": "bye",
    }  # fmt: skip


def append_to(execution_id: int, step: str, *lines: LogLine) -> None:
    with transaction.atomic():
        store.append_lines(execution_id, [JobLines(f"{execution_id}:{step}", step, 1, None, lines)])


def test_following_ends_with_the_execution_and_has_all_of_it() -> None:
    execution_id = start(CHAIN)
    out = StringIO()
    seen = threading.Event()

    class Told(StringIO):
        def write(self, text: str) -> int:
            out.write(text)
            if "begun" in out.getvalue():
                seen.set()
            return len(text)

    def follow() -> None:
        try:
            call_command("executions", "logs", str(execution_id), "-f", stdout=Told())
        finally:
            connection.close()

    thread = threading.Thread(target=follow)
    thread.start()
    [job] = lease()
    append_log(job.fence, [line("begun")])
    assert seen.wait(10), "told while the job runs"
    report_results(execution_id, [Report(job.fence, "success", {"n": 1}, log=[line("done")])])
    [job] = lease()
    report_results(execution_id, [Report(job.fence, "success", {"n": 1}, log=[line("the end")])])
    thread.join(10)
    assert not thread.is_alive()
    assert [text.partition(" | ")[2] for text in out.getvalue().splitlines()] == ["begun", "done", "the end"]


def test_the_command_says_what_was_dropped(settings: Any) -> None:
    settings.NOETL_LOG_BYTES_PER_EXECUTION = 1
    execution_id = start(FAN)
    for job in lease(count=2):
        report_results(execution_id, [said(job, "a")])
    err = StringIO()
    call_command("executions", "logs", str(execution_id), stdout=StringIO(), stderr=err)
    assert err.getvalue() == "1 more lines were dropped: the execution's log was full\n"
    assert report(lease()[0]) == "accepted"
