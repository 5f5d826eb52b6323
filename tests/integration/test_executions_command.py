"""`manage.py executions`: steering and explaining."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog.api import register_playbook
from executions.api import evaluate_execution, explain_execution, get_execution, report_results
from executions.errors import NotPausable
from executions.models import Execution
from tests.support.books import CHAIN, failure, lease, report, start, work_off

pytestmark = pytest.mark.django_db

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: told\npath: tests/told\n"
CODE = 'code: "def main(**given): return given"'
BRANCHES = f"""{HEAD}workload: {{limit: 10}}
workflow:
  - {{step: start, next: [measure, side]}}
  - step: measure
    type: python
    {CODE}
    next:
      - {{when: "{{{{ measure.n > workload.limit }}}}", then: alarm}}
      - {{else: quiet}}
  - {{step: alarm, type: python, {CODE}}}
  - {{step: quiet, type: python, {CODE}, pass: "{{{{ workload.limit < 20 }}}}", next: meet}}
  - {{step: side, type: python, {CODE}, next: meet}}
  - {{step: meet, type: python, {CODE}, next: end}}
  - {{step: end}}
"""
APPROVAL = f"""{HEAD}workflow:
  - {{step: start, next: ask}}
  - {{step: ask, type: approval, message: "Ship it?", approvers: [ann], next: end}}
  - {{step: end, result: "{{{{ ask.answer }}}}"}}
"""


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("executions", *arguments, stdout=out)
    return out.getvalue()


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def reasons(execution_id: int) -> dict[str, tuple[str, list[str]]]:
    return {one.step: (one.status, one.reasons) for one in explain_execution(execution_id)}


def test_pause_and_resume() -> None:
    execution_id = start(CHAIN)
    assert run("pause", str(execution_id), "--reason", "lunch") == f"execution {execution_id} is paused\n"
    assert run("ls", "--status", "paused").count(str(execution_id)) == 1
    with pytest.raises(NotPausable):
        run("pause", str(execution_id))
    assert run_json("resume", "@latest") == {"execution_id": str(execution_id), "status": "running"}


def test_approve_and_reject() -> None:
    first, second = start(APPROVAL), start(APPROVAL)
    assert run_json("approve", str(first), "ask", "--answer", '{"n": 1}')["status"] == "completed"
    assert get_execution(first).result == {"n": 1}
    assert run_json("approve", str(second), "ask", "--reject")["status"] == "failed"


def test_signal() -> None:
    text = APPROVAL.replace('type: approval, message: "Ship it?", approvers: [ann]', "type: wait, for: signal go")
    execution_id = start(text.replace("ask.answer", "ask"))
    assert "is completed" in run("signal", str(execution_id), "go", "--data", "[1]")
    assert get_execution(execution_id).result == [1]
    with pytest.raises(CommandError, match="is no JSON"):
        run("signal", str(execution_id), "go", "--data", "[1")


def test_rerun() -> None:
    first = start(CHAIN)
    work_off(lambda job: {"n": 1})
    told = run_json("rerun", str(first), "--from", "two", "--set", "n=7", "--set", "word=seven")
    again = Execution.objects.get(id=told["execution_id"])
    assert (told["rerun_of"], again.rerun_of) == (str(first), first)
    assert again.workload == {"n": 7, "word": "seven"}
    with pytest.raises(CommandError, match="KEY=VALUE"):
        run("rerun", str(first), "--set", "n")
    with pytest.raises(CommandError, match="not allowed with"):
        run("rerun", str(first), "--from", "two", "--failed")


def test_explain_tells_branches_skips_and_joins() -> None:
    execution_id = start(BRANCHES)
    jobs = {job.node_name: job for job in lease(count=5)}
    told = reasons(execution_id)
    assert told["measure"] == ("running", ["`start` led to it", "has jobs: 1 leased"])
    assert told["alarm"] == ("not run", ["`measure` leads to it and has not come to its end"])
    report(jobs["measure"], {"n": 3})
    told = reasons(execution_id)
    condition = "{{ measure.n > workload.limit }} gave false, which is false (measure.n was 3, workload.limit was 10)"
    assert told["alarm"] == ("not run", [f"`measure` did not lead to it: {condition}"])
    skip = "{{ workload.limit < 20 }} gave true, which is true (workload.limit was 10)"
    assert told["quiet"] == ("skipped", ["`measure` led to it as no condition was true", f"skipped by `pass`: {skip}"])
    assert told["meet"] == ("not run", ["reached, and waits for branches that may still come: `side`"])
    report(jobs["side"], None)
    work_off(lambda job: None)
    told = reasons(execution_id)
    assert told["meet"] == ("success", ["`side` led to it", "`quiet` led to it"])
    assert told["start"] == ("success", ["every execution begins here"])
    printed = run("explain", str(execution_id))
    assert "alarm: not run\n  `measure` did not lead to it: {{ measure.n > workload.limit }}" in printed
    assert [one["step"] for one in run_json("explain", "@latest")] == list(told)


def test_explain_tells_what_is_waited_for() -> None:
    waiting = start(APPROVAL)
    assert reasons(waiting)["ask"] == ("running", ["`start` led to it", 'waits for an approval by ann: "Ship it?"'])
    pause = start(APPROVAL.replace('approval, message: "Ship it?", approvers: [ann]', "wait, duration: 5m"))
    [_, waits, due] = reasons(pause)["ask"][1]
    assert waits == "waits 300.0 seconds"
    assert due.startswith("its wait is due at 20")


def test_explain_tells_of_children_retries_and_failures() -> None:
    register_playbook(CHAIN)
    call = APPROVAL.replace('approval, message: "Ship it?", approvers: [ann]', "playbook, path: tests/chain")
    parent = start(call)
    child = Execution.objects.get(parent_execution_id=parent)
    evaluate_execution(child.id)
    assert reasons(parent)["ask"][1][1:] == [
        f"run by the execution {child.id} of tests/chain",
        f"waits for the execution {child.id}, which is running",
    ]
    retried = start(CHAIN.replace("next: two", "retry: {max_attempts: 2, initial_delay: 0}\n    next: two"))
    for message in ("first", "second"):
        [job] = [job for job in lease(count=5) if job.execution_id == retried]
        report_results(retried, [failure(job, message)])
    assert reasons(retried)["one"] == (
        "error",
        ["`start` led to it", "try 1 failed (first); the next came 0.0 s later", "failed: second"],
    )
    assert reasons(retried)["two"][1] == ["`one` leads to it and has not come to its end"]


EACH = f"""{HEAD}workflow:
  - {{step: start, next: each}}
  - {{step: each, loop: {{in: [1, 2, 3, 4, 5], iterator: item}}, next: work}}
  - {{step: work, type: python, {CODE}, next: close}}
  - {{step: close, end_loop: each, next: end}}
  - {{step: end}}
"""


def test_explain_counts_items() -> None:
    execution_id = start(EACH)
    first, *_ = lease(count=3)
    report(first, 1)
    told = {one.step: one for one in explain_execution(execution_id)}
    assert told["work"].items == {"success": 1, "running": 4}
    assert "1 items of its loop are over, 0 of them failed" in told["each"].reasons
