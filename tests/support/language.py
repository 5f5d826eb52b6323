"""Short ways to write playbooks of the whole language, and to bring a server's executions forward without a worker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models import F

from executions.api import (
    evaluate_execution,
    find_executions_to_evaluate,
    find_executions_with_due_timers,
    find_parents_to_tell,
    fire_timers,
    get_execution,
    list_events,
)
from executions.models import EventLog, Timer
from queueing.api import LeasedJob
from queueing.models import Job
from tests.support.books import work_off

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: NAME\npath: tests/NAME\n"
CODE = 'code: "def main(**given): return given"'
EACH = f"""
workload: {{items: [1, 2, 3]}}
workflow:
  - {{step: start, next: each}}
  - step: each
    loop: {{in: "{{{{ workload.items }}}}", iterator: item}}
    next: one
  - {{step: one, type: python, {CODE}, with: {{n: "{{{{ item }}}}"}}, next: two}}
  - {{step: two, type: python, {CODE}, with: {{n: "{{{{ one.n }}}}"}}, next: close}}
  - {{step: close, end_loop: each, result: "{{{{ each_results }}}}", next: end}}
  - {{step: end, result: "{{{{ close }}}}"}}
"""
WAIT = """
workflow:
  - {step: start, next: pause}
  - {step: pause, type: wait, duration: 5m, next: end}
  - {step: end, result: done}
"""
CHILD = f"""
workload: {{n: 0}}
workflow:
  - {{step: start, next: work}}
  - {{step: work, type: python, {CODE}, with: {{n: "{{{{ workload.n }}}}"}}, next: end}}
  - {{step: end, result: {{got: "{{{{ work.n }}}}"}}}}
"""
PARENT = """
workflow:
  - {step: start, next: call}
  - {step: call, type: playbook, path: tests/child, with: {n: 4}, next: end}
  - {step: end, result: "{{ call }}"}
"""


def book(text: str, name: str = "book") -> str:
    return HEAD.replace("NAME", name) + text


def settle(answer: Callable[[LeasedJob], Any] = lambda job: None) -> None:
    """Do what workers, messages and the reconciler do, until there is nothing more to do."""
    while True:
        done = work_off(answer, batch=10)
        put_off = [*find_executions_to_evaluate(0, 100), *find_parents_to_tell(0, 100)]
        for execution_id in put_off:
            evaluate_execution(execution_id)
        if not done and not put_off:
            return


def let_time_pass() -> None:
    """Make every timer due and every job available, as if their time had come."""
    Timer.objects.update(due_at=F("due_at") - timedelta(days=400_000))
    Job.objects.update(available_at=F("available_at") - timedelta(days=400_000))


def fire() -> int:
    return sum(fire_timers(execution_id) for execution_id in find_executions_with_due_timers(100))


def types(execution_id: int) -> list[str]:
    return [event.event_type for event in list_events(execution_id)]


def event(execution_id: int, type_: str) -> EventLog:
    return EventLog.objects.filter(execution_id=execution_id, event_type=type_).order_by("-seq")[0]


def ended(execution_id: int) -> tuple[str, Any]:
    view = get_execution(execution_id)
    return view.status, view.result if view.status == "completed" else (view.error or {}).get("code")
