"""Drives the pure planner without a database: the engine in memory, what it asks for answered by the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.commands import StartChild
from executions.domain.engine import begin
from executions.domain.events import Event
from executions.domain.facts import Recorded
from executions.domain.fold import replay
from executions.domain.jobs import EnqueueJob
from executions.domain.memory import step_statuses
from executions.domain.planner import Decision
from executions.domain.start import reuse_of
from executions.domain.state import State, encode
from executions.domain.submitting import work_of

Answer = Callable[[EnqueueJob], Any]
"""What an action gives for a job; an exception makes it an error."""

NOW = "2026-01-01T00:00:00+00:00"


class Driver:
    """One execution in memory. `pick` chooses which of the open jobs and children reports next."""

    def __init__(
        self,
        playbook: Playbook,
        answer: Answer = lambda job: None,
        payload: dict[str, Any] | None = None,
        pick: Callable[[int], int] = lambda count: 0,
        execution_id: str = "1",
        child: Callable[[StartChild], Any] = lambda child: None,
        catalog: Callable[[str], list[str]] = lambda prefix: [],
    ) -> None:
        self.engine = begin(
            playbook, execution_id, payload, now=lambda: NOW, list_catalog=catalog, recorded=self._recorded
        )
        self.before: Driver | None = None
        self.playbook = playbook
        self.answer = answer
        self.child = child
        self.pick = pick
        self.jobs: list[EnqueueJob] = []
        self.children: list[StartChild] = []
        self.enqueued: list[EnqueueJob] = []

    def start(self) -> Decision:
        return self._asked(self.engine.start())

    def run(self) -> Driver:
        self.start()
        return self.finish()

    def rerun_of(self, before: Driver, from_step: str | None) -> None:
        """Start as a rerun of an execution that this one may take results from."""
        self.before = before
        self._asked(self.engine.start(reuse=reuse_of(self.playbook, before.engine.execution_id, from_step)))

    def finish(self) -> Driver:
        """Answer everything, and let the time of waits run out when nothing else is left to happen."""
        while not self.engine.is_over:
            if count := len(self.jobs) + len(self.children):
                place = self.pick(count) % count
                if place < len(self.jobs):
                    self.report(self.jobs.pop(place))
                else:
                    self.end(self.children.pop(place - len(self.jobs)))
            elif waits := [timer for timer in self.engine.timers.values() if timer.kind == "wait"]:
                decision = self.engine.fire(waits[0], NOW)
                assert decision is not None
                self._asked(decision)
            else:
                break
        return self

    def report(self, job: EnqueueJob) -> None:
        told = self._answer(lambda: self.answer(job))
        type_ = ev.ACTION_COMPLETED if told["status"] == "success" else ev.ACTION_ERROR
        node_type = ev.NODE_STEP if job.index is None else ev.NODE_ITERATION
        loop: dict[str, Any] = {} if job.index is None else {"loop_name": job.step, "index": job.index}
        self.happen(Event(self.engine.next_seq, type_, job.node_id, job.step, node_type, **told, **loop))

    def end(self, child: StartChild) -> None:
        decision = self.engine.end_child(child, "2", **self._answer(lambda: self.child(child)))
        assert decision is not None
        self._asked(decision)

    def happen(self, event: Event) -> Decision:
        return self._asked(self.engine.take(event))

    def _answer(self, give: Callable[[], Any]) -> dict[str, Any]:
        try:
            return {"status": "success", "result": give()}
        except Exception as error:
            # An action may fail in any way: here the test says how.
            return {"status": "error", "error": {"code": "boom", "message": str(error)}}

    def _recorded(self, node: str) -> Recorded | None:
        assert self.before is not None
        there = f"{self.before.engine.execution_id}:{node}"
        for event in self.before.log:
            if event.node_id == there and event.type == ev.ACTION_COMPLETED:
                job = next(job for job in self.before.enqueued if job.node_id == there)
                return Recorded(work_of(job), event.result)
        return None

    def _asked(self, decision: Decision) -> Decision:
        news = self.engine.take_news()
        self.jobs[:] = [job for job in self.jobs if job.node_id not in news.closed]
        self.children[:] = [child for child in self.children if child.node_id not in news.closed]
        self.jobs.extend(news.jobs)
        self.children.extend(news.children)
        self.enqueued.extend(news.jobs)
        # What is stored is JSON.
        json.dumps(encode(self.state))
        return decision

    # -- what the tests look at -----------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.engine.state

    @property
    def log(self) -> list[Event]:
        return self.engine.log.events

    @property
    def loads(self) -> int:
        return self.engine.loads

    @loads.setter
    def loads(self, count: int) -> None:
        self.engine.loads = count

    @property
    def result(self) -> Any:
        return self.log[-1].result

    @property
    def error(self) -> Any:
        return self.log[-1].error

    def statuses(self) -> dict[str, str]:
        return {name: status for name, status in step_statuses(self.log).items() if status != "running"}

    def types(self) -> list[str]:
        return [f"{event.type}:{event.node_name}" for event in self.log]

    def replayed(self) -> State:
        return replay(self.log, self.playbook)
