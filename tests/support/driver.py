"""Drives the pure planner without a database: a log in memory, jobs answered by the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.facts import Facts, MissingFacts, Wanted
from executions.domain.jobs import EnqueueJob
from executions.domain.planner import Decision, plan
from executions.domain.results import StepResult
from executions.domain.start import build_workload
from executions.domain.state import State, decode, encode, replay

Answer = Callable[[EnqueueJob], Any]
"""What an action gives for a job; an exception makes it an error."""


@dataclass
class Driver:
    """One execution in memory. `pick` chooses which open job reports next."""

    playbook: Playbook
    answer: Answer = lambda job: None
    payload: dict[str, Any] = field(default_factory=dict)
    pick: Callable[[int], int] = lambda count: 0
    execution_id: str = "1"
    state: State = field(default_factory=State)
    log: list[Event] = field(default_factory=list)
    jobs: list[EnqueueJob] = field(default_factory=list)
    enqueued: list[EnqueueJob] = field(default_factory=list)
    loads: int = 0

    def start(self) -> None:
        self.workload = build_workload(self.playbook, self.payload, {}, "job", merge=False)
        self.happen(Event(1, ev.EXECUTION_START, self.execution_id, self.playbook.name, ev.NODE_EXECUTION))

    def run(self) -> Driver:
        self.start()
        while self.jobs:
            self.report(self.jobs.pop(self.pick(len(self.jobs))))
        return self

    def report(self, job: EnqueueJob) -> None:
        fields: dict[str, Any] = {"status": "success"}
        type_ = ev.ACTION_COMPLETED
        try:
            fields["result"] = self.answer(job)
        except Exception as error:
            type_ = ev.ACTION_ERROR
            fields = {"status": "error", "error": {"code": "boom", "message": str(error)}}
        node_type = ev.NODE_STEP if job.index is None else ev.NODE_ITERATION
        loop: dict[str, Any] = {} if job.index is None else {"loop_name": job.step, "index": job.index}
        self.happen(Event(self.state.seq + 1, type_, job.node_id, job.step, node_type, **fields, **loop))

    def happen(self, event: Event) -> Decision:
        self.log.append(event)
        facts = Facts(self.execution_id, "2026-01-01T00:00:00+00:00", self.workload)
        while True:
            try:
                decision = plan(self.playbook, decode(json.loads(json.dumps(encode(self.state)))), event, facts)
                break
            except MissingFacts as missing:
                self.load(facts, missing.wanted)
        self.state = decision.state
        self.log.extend(decision.events)
        self.jobs.extend(decision.jobs)
        self.enqueued.extend(decision.jobs)
        if decision.close_jobs:
            self.jobs.clear()
        return decision

    def load(self, facts: Facts, wanted: Wanted) -> None:
        self.loads += 1
        for event in self.log:
            node = event.node_id
            if node in wanted.results | wanted.loops:
                if event.type in (ev.ACTION_COMPLETED, ev.STEP_COMPLETED):
                    before = facts.results.get(node)
                    data = event.result if event.result is not None or before is None else before.data
                    facts.results[node] = StepResult("success", data)
                elif event.type in (ev.ACTION_ERROR, ev.STEP_FAILED):
                    facts.results[node] = StepResult("error", None, event.error)
            if event.seq in wanted.transitions:
                facts.transitions[event.seq] = {t["step"]: t["inputs"] for t in event.context["taken"]}
            if node in wanted.items and event.type == ev.LOOP_START:
                facts.items[node] = event.context["items"]
        for node in wanted.loops:
            step, _, visit = node.partition(":")[2].partition("#")
            facts.loops[node] = {
                event.index: StepResult("success", event.result)
                if event.type == ev.ACTION_COMPLETED
                else StepResult("error", None, event.error)
                for event in self.log
                if event.type in ev.OUTCOMES
                and event.index is not None
                and event.loop_name == step
                and event.node_id.partition("#")[2] == visit
            }
        missing = (wanted.results - facts.results.keys()) | (wanted.loops - facts.loops.keys())
        assert not missing, f"the log lacks {missing}"

    # -- what the tests look at -----------------------------------------------------------------------

    @property
    def result(self) -> Any:
        return self.log[-1].result

    @property
    def error(self) -> Any:
        return self.log[-1].error

    def statuses(self) -> dict[str, str]:
        names = {ev.STEP_COMPLETED: "success", ev.STEP_FAILED: "error", ev.STEP_SKIP: "skipped"}
        return {event.node_name: names[event.type] for event in self.log if event.type in names}

    def types(self) -> list[str]:
        return [f"{event.type}:{event.node_name}" for event in self.log]

    def replayed(self) -> State:
        return replay(self.log, self.playbook.index_by_name.__getitem__)
