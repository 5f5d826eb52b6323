"""An execution in memory: its log, its state, and what it waits for; the local run, the dry run, a replay share it.

Pure: time is handed in, and what is asked for is answered by whoever drives it. Knows no rule of the language; those
are the planner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.answers import answer_of
from executions.domain.commands import SetTimer, StartChild, TimerKind
from executions.domain.events import Event
from executions.domain.facts import Facts, Recorded, known_from
from executions.domain.frames import decode_frame
from executions.domain.jobs import EnqueueJob
from executions.domain.memory import MemoryFrames, MemoryLog
from executions.domain.outcomes import JobPlace, Reported, as_retry, late_result, outcome_events
from executions.domain.planner import Decision, plan_news
from executions.domain.planning import is_under
from executions.domain.retries import judge
from executions.domain.sight import job_uuid
from executions.domain.start import build_workload, start_event
from executions.domain.state import State, decode, encode
from executions.domain.wanted import MissingFacts
from executions.errors import LogInconsistent

T = TypeVar("T")

NO_TIME = "1970-01-01T00:00:00+00:00"


@dataclass(slots=True)
class News:
    """What an engine has asked for since it was asked last; `closed` are nodes whose open work is called off."""

    jobs: list[EnqueueJob] = field(default_factory=list)
    children: list[StartChild] = field(default_factory=list)
    timers: list[SetTimer] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


class Engine:
    """One execution. `jobs`, `children` and `timers` are what it waits for, by node (timers by node and kind).

    Start it, and give an answer to whatever is open, until nothing is. Not thread-safe.
    """

    def __init__(
        self,
        playbook: Playbook,
        execution_id: str,
        workload: Mapping[str, Any],
        *,
        env: Mapping[str, str] | None = None,
        now: Callable[[], str] = lambda: NO_TIME,
        list_catalog: Callable[[str], list[str]] = lambda prefix: [],
        recorded: Callable[[str], Recorded | None] = lambda node: None,
    ) -> None:
        """`now` gives the time an event is recorded at, RFC 3339; `list_catalog` the paths that begin with a prefix.

        `recorded` gives what the execution that this one reruns had at a node, by the id without the execution.
        """
        self.playbook = playbook
        self.execution_id = execution_id
        self.workload = workload
        self.log = MemoryLog()
        self.jobs: dict[str, EnqueueJob] = {}
        self.children: dict[str, StartChild] = {}
        self.timers: dict[tuple[str, TimerKind], SetTimer] = {}
        self.loads = 0
        self._news = News()
        self._env = env or {}
        self._now = now
        self._list_catalog = list_catalog
        self._recorded = recorded
        self._status = "pending"
        self._stored = encode(State())
        self._frames = MemoryFrames()
        self._failures: dict[str, int] = {}

    # -- what came of it ------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """A copy of the state, with all frames."""
        state = decode(self._stored)
        state.frames.update((key, decode_frame(data)) for key, data in self._frames.all().items())
        return state

    @property
    def status(self) -> str:
        """pending, running, paused, completed, failed or cancelled."""
        return self._status

    @property
    def next_seq(self) -> int:
        """The `seq` of the next event."""
        return len(self.log) + 1

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._status in ("completed", "failed", "cancelled")

    @property
    def end(self) -> Event | None:
        """The event that ended it."""
        return next((event for event in reversed(self.log.events) if event.type in ev.TERMINAL), None)

    @property
    def result(self) -> Any:
        """Its result; None until it has completed."""
        return self.end.result if self.end else None

    @property
    def error(self) -> Any:
        """The root cause of a failed one."""
        return self.end.error if self.end else None

    def answer(self, wanted: str | None) -> Any:
        """What a parent is given of it when it has completed. Raises: `TemplateError`."""
        facts = self._facts()
        return self._with_facts(facts, lambda: answer_of(self.playbook, self.state, facts, self.result, wanted))

    def take_news(self) -> News:
        """What has been asked for since the last time."""
        news, self._news = self._news, News()
        return news

    # -- what happens ---------------------------------------------------------------------------------

    def start(
        self, version: str = "", *, reuse: Mapping[str, Any] | None = None, begin_at: str | None = None
    ) -> Decision:
        """Begin, at `start` or at another step; `reuse` is what `reuse_of` gives, of a rerun.

        Raises: `WorkloadInvalid`.
        """
        first = start_event(self.execution_id, self.playbook, version, self.workload, reuse)
        if begin_at is not None:
            first = replace(first, context={**first.context, "taken": [{"step": begin_at, "inputs": {}}]})
        return self.take(first)

    def report(self, job: EnqueueJob, said: Reported, meta: Mapping[str, Any], leased_at: str | None) -> float | None:
        """How a job's action ended. Returns: seconds until it is to be tried again; None: that was its outcome.

        What is said of a job that was called off is kept as a late result, and nothing follows.
        """
        place = JobPlace(job.node_id, job.step, job.index, meta.get("worker_id"))
        told = {name: value for name, value in meta.items() if name != "worker_id"}
        if self.jobs.get(job.node_id) is not job:
            self.take(late_result(self.next_seq, place, said, told))
            return None
        started, outcome = outcome_events(self.next_seq, place, said, told, leased_at)
        tries = self._failures.get(job.node_id, 0) + 1
        delay = self._judge(outcome, tries) if said.status == "error" else None
        if delay is not None:
            self._failures[job.node_id] = tries
            outcome = as_retry(outcome, tries, delay)
        self.take(started, outcome)
        return delay

    def fire(self, timer: SetTimer, due_at: str) -> Decision | None:
        """A timer has run out, that was due at a time (RFC 3339). One that was called off says nothing any more."""
        if self.timers.get((timer.node_id, timer.kind)) is not timer:
            return None
        del self.timers[timer.node_id, timer.kind]
        return self.happen(
            ev.TIMER_FIRED, timer.node_id, _step_of(timer.node_id), context={"kind": timer.kind, "due_at": due_at}
        )

    def tell_child(self, child: StartChild, execution_id: str, path: str, version: str) -> None:
        """The child that was asked for has started."""
        told = {"execution_id": execution_id, "path": path, "version": version}
        self.happen(ev.CHILD_STARTED, child.node_id, child.step, status="running", context=told, **_item_of(child))

    def end_child(self, child: StartChild, execution_id: str | None, **told: Any) -> Decision | None:
        """The child has ended, or could not be started and has no id: `status`, `result`, `error`.

        One that was called off is not heard.
        """
        if self.children.get(child.node_id) is not child:
            return None
        context = None if execution_id is None else {"execution_id": execution_id}
        return self.happen(ev.CHILD_COMPLETED, child.node_id, child.step, context=context, **told, **_item_of(child))

    def signal(self, name: str, data: Any = None, by: str = "", node_id: str = "") -> None:
        """A signal for whoever waits for it, or, at the node of an approval, its answer."""
        if not self.is_over:
            told = {"name": name, "data": data, "by": by}
            self.happen(ev.SIGNAL_RECEIVED, node_id, _step_of(node_id), context=told)

    def cancel(self, reason: str = "", by: str = "") -> None:
        """Ask for the end; what `finally` names runs first, unless it is asked for again."""
        if not self.is_over:
            self.happen(ev.CANCEL_REQUESTED, meta={"reason": reason, "by": by})

    def happen(self, type_: str, node_id: str = "", name: str = "", **fields: Any) -> Decision:
        """An event at a node, or at the execution itself."""
        node_type = ev.NODE_STEP if name else ev.NODE_EXECUTION
        if fields.get("index") is not None:
            node_type = ev.NODE_ITERATION
        node_id, name = node_id or self.execution_id, name or self.playbook.name
        return self.take(Event(self.next_seq, type_, node_id, name, node_type, **fields))

    def take(self, *events: Event) -> Decision:
        """Keep the next events, and all that follows from them together. Raises: `ImpossibleEvent`."""
        at = self._now()
        for event in events:
            self.log.append(event, at)
            if event.type in ev.OUTCOMES:
                self.jobs.pop(event.node_id, None)
                self.children.pop(event.node_id, None)
        facts = self._facts(at)
        known_from(events, facts)
        decision = self._with_facts(facts, lambda: plan_news(self.playbook, decode(self._stored), events, facts))
        for following in decision.events:
            self.log.append(following, at)
        self._frames.keep(decision.state)
        self._stored = encode(decision.state)
        self._status = decision.state.status
        self._open(decision)
        return decision

    # -- planning -------------------------------------------------------------------------------------

    def _facts(self, at: str | None = None) -> Facts:
        return Facts(self.execution_id, at or self._now(), self.workload, self._env)

    def _judge(self, outcome: Event, tries: int) -> float | None:
        facts = self._facts()

        def judge_now() -> float | None:
            state = decode(self._stored)
            state.frames.update((key, decode_frame(data)) for key, data in facts.frames.items() if data is not None)
            return judge(self.playbook, state, facts, outcome, tries)

        return self._with_facts(facts, judge_now)

    def _with_facts(self, facts: Facts, ask: Callable[[], T]) -> T:
        while True:
            try:
                return ask()
            except MissingFacts as missing:
                wanted = facts.missing(missing.wanted)
                self.loads += 1
                self.log.load(facts, wanted)
                self._frames.load(facts, wanted)
                facts.catalog.update((prefix, self._list_catalog(prefix)) for prefix in wanted.catalog)
                facts.recorded.update((node, self._recorded(node)) for node in wanted.recorded)
                left = facts.missing(wanted)
                if left or not wanted:
                    raise LogInconsistent(self.execution_id, {"missing": str(missing.wanted)}) from None

    def _open(self, decision: Decision) -> None:
        """Call off what the decision closes, and open what it asks for."""
        if decision.close_all:
            self._news.closed.extend({*self.jobs, *self.children})
            self.jobs.clear()
            self.children.clear()
            self.timers.clear()
        elif decision.close_nodes:
            self._close_below(decision.close_nodes)
        self.jobs.update((job.node_id, job) for job in decision.jobs)
        self.children.update((child.node_id, child) for child in decision.children)
        self.timers.update(((timer.node_id, timer.kind), timer) for timer in decision.timers)
        self._news.jobs.extend(decision.jobs)
        self._news.children.extend(decision.children)
        self._news.timers.extend(decision.timers)

    def _close_below(self, roots: list[str]) -> None:
        closed = [node_id for node_id in (*self.jobs, *self.children) if is_under(node_id, roots)]
        for node_id in closed:
            self.jobs.pop(node_id, None)
            self.children.pop(node_id, None)
        for place in [place for place in self.timers if is_under(place[0], roots)]:
            del self.timers[place]
        self._news.closed.extend(closed)


def _step_of(node_id: str) -> str:
    """The step of a node; empty for the execution's own."""
    return ev.parse_node_id(node_id).step if ":" in node_id else ""


def _item_of(child: StartChild) -> dict[str, Any]:
    return {} if child.index is None else {"loop_name": child.step, "index": child.index}


def begin(
    playbook: Playbook,
    execution_id: str,
    payload: Any = None,
    *,
    merge: bool = False,
    env: Mapping[str, str] | None = None,
    now: Callable[[], str] = lambda: NO_TIME,
    list_catalog: Callable[[str], list[str]] = lambda prefix: [],
    recorded: Callable[[str], Recorded | None] = lambda node: None,
) -> Engine:
    """An execution that is ready to start, its workload built. Raises: `WorkloadInvalid`."""
    given = {} if payload is None else payload
    workload = build_workload(playbook, given, env or {}, job_uuid(execution_id), merge=merge)
    return Engine(playbook, execution_id, workload, env=env, now=now, list_catalog=list_catalog, recorded=recorded)
