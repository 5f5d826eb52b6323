"""Registering playbooks and answering their jobs, for tests on the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catalog.api import register_playbook
from executions.api import Report, report_results, start_execution
from queueing.api import LeasedJob, lease_jobs

CHAIN = """
apiVersion: noetl.io/v1
kind: Playbook
name: chain
path: tests/chain
workload: {n: 1}
workflow:
  - step: start
    next: one
  - step: one
    type: python
    with: {n: "{{ n }}"}
    code: "def main(n): return {'n': n + 1}"
    next: two
  - step: two
    type: python
    with: {n: "{{ one.n }}"}
    code: "def main(n): return {'n': n * 10}"
    next: end
  - step: end
    result: {n: "{{ two.n }}"}
"""

FAN = """
apiVersion: noetl.io/v1
kind: Playbook
name: fan
path: tests/fan
workload: {items: [1, 2, 3, 4, 5]}
workflow:
  - step: start
    next: each
  - step: each
    type: python
    loop: {in: "{{ workload.items }}", iterator: item}
    with: {item: "{{ item }}"}
    code: "def main(item): return item * 2"
    next: end
  - step: end
    result: {results: "{{ each.results }}"}
"""

WIDENING = """
apiVersion: noetl.io/v1
kind: Playbook
name: widening
path: tests/widening
workflow:
  - {step: start, next: one}
  - {step: one, type: python, code: "def main(): return 60", next: each}
  - step: each
    type: python
    loop: {in: "{{ range(one.result) | list }}", iterator: item}
    with: {item: "{{ item }}"}
    code: "def main(item): return item"
    next: end
  - step: end
    result: {results: "{{ each.results }}"}
"""
"""The report of `one` makes more jobs than any worker takes along: the others have to be published."""

CALLING = """
apiVersion: noetl.io/v1
kind: Playbook
name: calling
path: tests/calling
workflow:
  - {step: start, next: one}
  - {step: one, type: python, code: "def main(): return 1", next: call}
  - {step: call, type: playbook, path: tests/chain, with: {n: "{{ one.result }}"}, next: end}
  - {step: end, result: "{{ call }}"}
"""
"""The report of `one` starts a child, which is `CHAIN`."""


def start(text: str, payload: Any = None, **options: Any) -> int:
    """Register a playbook's text and start an execution of it."""
    registered = register_playbook(text, "test").playbook
    return start_execution(registered.path, registered.version, payload, **options)


def lease(worker: str = "w1", count: int = 1, seconds: float = 60) -> list[LeasedJob]:
    """Lease jobs of the default pool."""
    return lease_jobs(worker, ["default"], count, seconds)


def success(job: LeasedJob, data: Any = None) -> Report:
    """A job's good end."""
    return Report(fence=job.fence, status="success", data=data)


def failure(job: LeasedJob, message: str = "broken") -> Report:
    """A job's bad end."""
    return Report(fence=job.fence, status="error", error={"code": "test", "message": message})


def report(job: LeasedJob, data: Any = None) -> str:
    """Report a job's good end; gives the judgement."""
    [judgement] = report_results(job.execution_id, [success(job, data)])
    return judgement


def work_off(answer: Callable[[LeasedJob], Any], worker: str = "w1", batch: int = 1) -> int:
    """Lease and answer jobs until there are none. Gives how many there were."""
    done = 0
    while jobs := lease(worker, batch):
        for job in jobs:
            report(job, answer(job))
            done += 1
    return done
