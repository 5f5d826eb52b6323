"""Drives the pure planner without a database: a log in memory, jobs answered by the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.facts import Facts, outcome_of
from executions.domain.frames import decode_frame, encode_frame
from executions.domain.jobs import EnqueueJob
from executions.domain.planner import Decision, plan
from executions.domain.planning import is_under
from executions.domain.results import StepResult
from executions.domain.start import build_workload, start_event
from executions.domain.state import State, decode, encode, replay
from executions.domain.wanted import MissingFacts, Wanted

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

    def start(self) -> Decision:
        self.workload = build_workload(self.playbook, self.payload, {}, "job", merge=False)
        return self.happen(start_event(self.execution_id, self.playbook, "0.1.0", self.workload))

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
                decision = plan(self.playbook, self.copy(), event, facts)
                break
            except MissingFacts as missing:
                self.load(facts, missing.wanted)
        self.state = decision.state
        self.log.extend(decision.events)
        if decision.close_all:
            self.jobs.clear()
        self.jobs = [job for job in self.jobs if not is_under(job.node_id, decision.close_nodes)]
        self.jobs.extend(decision.jobs)
        self.enqueued.extend(decision.jobs)
        return decision

    def copy(self) -> State:
        """The state as if it had been stored, with all of its frames."""
        copy = decode(json.loads(json.dumps(encode(self.state))))
        for key, frame in self.state.frames.items():
            copy.frames[key] = decode_frame(json.loads(json.dumps(encode_frame(frame))))
        return copy

    def load(self, facts: Facts, wanted: Wanted) -> None:
        self.loads += 1
        outcomes: dict[str, StepResult] = {}
        for event in self.log:
            node = event.node_id
            before = outcomes.get(node)
            data = event.result if event.result is not None or before is None else before.data
            if event.type in (ev.ACTION_COMPLETED, ev.STEP_COMPLETED, ev.WAIT_COMPLETED):
                outcomes[node] = StepResult("success", data)
            elif event.type == ev.CHILD_COMPLETED:
                outcomes[node] = outcome_of(event)
            elif event.type in (ev.ACTION_ERROR, ev.STEP_FAILED):
                outcomes[node] = StepResult("error", data, event.error)
            elif event.type == ev.LOOP_ITERATION_COMPLETED:
                outcomes[node] = StepResult("success" if event.error is None else "error", None, event.error)
            if event.seq in wanted.transitions:
                facts.transitions[event.seq] = {t["step"]: t["inputs"] for t in event.context["taken"]}
            if event.type == ev.LOOP_START:
                facts.items.update(((node, at), item) for at, item in enumerate(event.context["items"]))
            if event.seq in wanted.signals:
                facts.signals[event.seq] = event.context["data"]
        facts.results.update((node, outcomes[node]) for node in wanted.results)
        for prefix in wanted.trees:
            facts.trees[prefix] = {node: found for node, found in outcomes.items() if node.startswith(prefix)}
        facts.all_frames = True
        facts.completed = [event.node_id for event in self.log if event.type == ev.STEP_COMPLETED]

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
        return replay(self.log, self.playbook)
