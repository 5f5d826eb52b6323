"""The planner's laws, each a function of a case; what is looked at of the driver stands in one place, `Seen`.

A law that is broken raises `Violation`. Used by the tests (Hypothesis) and by `python -m tests.laws` (plain seeds).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final

from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.fold import replay
from executions.domain.frames import decode_frame, encode_frame
from executions.domain.jobs import EnqueueJob
from executions.domain.state import decode, encode
from tests.support.driver import Driver
from tests.support.generating import Case
from tests.support.naive import Outcome, interpret

Order = Sequence[int]
"""Which open job reports next, turn by turn: a number, modulo how many there are. () is first come, first served."""

DRIVER_RETRIES: Final = False
"""Whether the driver tries a failed action again by itself."""


class Violation(AssertionError):
    """A law does not hold for a case."""


@dataclass
class Seen:
    """One execution as the driver shows it, in the words of the naive model."""

    case: Case
    order: Order = ()
    runs: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        turns = cycle(self.order or [0])
        self.driver = Driver(self.case.playbook, self._answer, pick=lambda count: next(turns) % count).run()

    def _answer(self, job: EnqueueJob) -> Any:
        node = local(job.node_id)
        step = self.case.playbook.steps[self.case.playbook.index_by_name[job.step]]
        retry, inputs = step.retry, job.action["inputs"]
        if job.kind == "save":
            of_items = step.loop.save if step.loop is not None else None
            save = step.save if node.endswith("#save") else of_items
            assert save is not None
            retry, inputs = save.retry, {"data": job.action["arguments"]["data"]}
        last = 1 if DRIVER_RETRIES or retry is None or node.endswith("#undo") else retry.max_attempts
        for attempt in range(1, last + 1):
            self.runs[node] += 1
            try:
                return self.case.answer(node, self.runs[node], inputs)
            except RuntimeError:
                if attempt == last:
                    raise
        raise AssertionError("a retry has at least one attempt")

    @property
    def log(self) -> list[Event]:
        return self.driver.log

    @property
    def jobs(self) -> dict[str, Any]:
        """What was scheduled: the rendered actions by node."""
        return {local(job.node_id): job.action for job in self.driver.enqueued}

    @property
    def scheduled(self) -> list[str]:
        return [local(job.node_id) for job in self.driver.enqueued]

    @property
    def open_jobs(self) -> int:
        return len(self.driver.jobs)

    @property
    def started(self) -> list[str]:
        """The visits of steps, in order."""
        return [local(event.node_id) for event in self.log if event.type in (ev.STEP_STARTED, ev.STEP_SKIP)]

    @property
    def unsettled(self) -> bool:
        """Whether some step still runs, waits, or was not left."""
        return not self.driver.state.root.is_quiet()

    @property
    def statuses(self) -> dict[str, str]:
        names = {ev.STEP_COMPLETED: "success", ev.STEP_FAILED: "error", ev.STEP_SKIP: "skipped"}
        return {local(event.node_id): names[event.type] for event in self.log if event.type in names}

    def outcome(self) -> Outcome:
        """The execution's end, as the naive model tells it."""
        last = self.log[-1]
        status = {ev.EXECUTION_COMPLETED: "completed", ev.EXECUTION_FAILED: "failed"}.get(last.type, last.type)
        error = last.error or {}
        return Outcome(
            status, last.result, error.get("code"), error.get("step"), self.statuses, self.scheduled, self.runs
        )

    def whole(self) -> Any:
        """The state that the whole log gives, to be compared."""
        return self.driver.replayed()

    def in_parts(self, cut: int) -> Any:
        """The state that the log gives when it is stored after `cut` events and read again."""
        book = self.case.playbook
        first = replay(self.log[:cut], book)
        half = decode(json.loads(json.dumps(encode(first))))
        for key, frame in first.frames.items():
            half.frames[key] = decode_frame(json.loads(json.dumps(encode_frame(frame))))
        return replay(self.log[cut:], book, half)


def local(node_id: str) -> str:
    """A node id without its execution."""
    return node_id.partition(":")[2]


def demand(holds: bool, *told: Any) -> None:
    """Raise `Violation`, telling what was found, unless it holds."""
    if not holds:
        raise Violation(*told)


# -- the laws: each looks at executions of one case and tells how many it ran ---------------------------------


def deterministic(case: Case, order: Order) -> int:
    """The same answers in the same order give the same log."""
    one, other = Seen(case, order), Seen(case, order)
    demand(one.log == other.log, "two runs have two logs")
    return 2


def settled(case: Case, order: Order) -> int:
    """An execution comes to an end, with nothing left over, and its events are numbered densely."""
    seen = Seen(case, order)
    demand(bool(seen.log) and seen.log[-1].type in ev.TERMINAL, "the last event is", seen.log[-1].type)
    demand(seen.open_jobs == 0, "jobs are left open")
    if seen.log[-1].type == ev.EXECUTION_COMPLETED:
        demand(not seen.unsettled, "steps are left over")
    demand([event.seq for event in seen.log] == list(range(1, len(seen.log) + 1)), "gaps in the log")
    return 1


def one_terminal_event(case: Case, order: Order) -> int:
    """Exactly one terminal event is written."""
    terminal = [event.type for event in Seen(case, order).log if event.type in ev.TERMINAL]
    demand(len(terminal) == 1, "terminal events:", terminal)
    return 1


def scheduled_once(case: Case, order: Order) -> int:
    """Each visit starts once, and each job is asked for once."""
    seen = Seen(case, order)
    for nodes in (seen.started, seen.scheduled):
        twice = [node for node, count in Counter(nodes).items() if count > 1]
        demand(not twice, "more than once:", twice)
    return 1


def replayed(case: Case, order: Order) -> int:
    """The log gives the state the planner ended with, whole or in parts."""
    seen = Seen(case, order)
    demand(seen.whole() == seen.driver.state, "the replayed state is another")
    for cut in {len(seen.log) // 3, len(seen.log) // 2, sum(order) % len(seen.log)}:
        demand(seen.in_parts(cut) == seen.driver.state, "replayed in parts, cut after", cut)
    return 1


def nothing_forgotten(case: Case, order: Order) -> int:
    """In an execution that completes, what a transition took starts afterwards, and what started ends."""
    seen = Seen(case, order)
    if seen.log[-1].type != ev.EXECUTION_COMPLETED or case.has_any or interpret(case.playbook, case.answer).torn:
        return 1
    last_start = {event.node_name: event.seq for event in seen.log if event.type in (ev.STEP_STARTED, ev.STEP_SKIP)}
    for event in seen.log:
        for taken in event.context["taken"] if event.type == ev.TRANSITION_EVALUATED else ():
            demand(last_start.get(taken["step"], 0) > event.seq, event.node_id, "took", taken["step"])
    demand(set(seen.started) == set(seen.statuses), "not ended:", set(seen.started) ^ set(seen.statuses))
    if "end" in case.playbook.index_by_name:
        demand("end" in seen.statuses, "`end` did not run")
    return 1


def order_is_irrelevant(case: Case, order: Order) -> int:
    """Whatever is quick or slow, the same comes of it, unless a failure drops work or a join takes the first."""
    if case.has_any or (expected := interpret(case.playbook, case.answer)).torn:
        return 0
    closing = [step.name for at, step in enumerate(case.playbook.steps) if case.playbook.finally_region >> at & 1]
    if sum(expected.statuses.get(name) == "error" for name in closing) > 1:
        # The first of them is the cause, and which one that is takes its time.
        return 0
    ordered, other = Seen(case, ()), Seen(case, order)
    compare(expected, other.outcome(), other.log)
    demand(ordered.jobs == other.jobs, "other actions", ordered.jobs, other.jobs)
    return 2


def agrees_with_the_naive_model(case: Case, order: Order) -> int:
    """First come, first served, the planner does what the naive interpreter does."""
    seen = Seen(case, ())
    compare(interpret(case.playbook, case.answer), seen.outcome(), seen.log)
    return 1


def compare(expected: Outcome, found: Outcome, log: list[Event]) -> None:
    """Raise `Violation` where two outcomes differ."""
    for name in ("statuses", "runs", "error_code", "failing_step", "status", "result"):
        one, other = getattr(expected, name), getattr(found, name)
        if one != other:
            raise Violation(f"{name}: naive {difference(one, other)}, planner {difference(other, one)}")


def difference(one: Any, other: Any) -> Any:
    """What is in the one and not in the other."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: value for key, value in one.items() if key not in other or other[key] != value}
    if isinstance(one, list) and isinstance(other, list):
        return [value for value in one if value not in other] or one
    return one


Law = Callable[[Case, Order], int]
LAWS: Final[tuple[Law, ...]] = (
    settled,
    one_terminal_event,
    scheduled_once,
    agrees_with_the_naive_model,
    nothing_forgotten,
    order_is_irrelevant,
    replayed,
    deterministic,
)
