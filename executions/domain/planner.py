"""The planner: one event in, the decision out. The only place where the rules of docs/language.md are carried out.

`plan` is pure. It folds the event into the state, then settles: as long as something follows from the state, it
emits the event that says so and folds that too, so that a replay of the log gives the same state. It is read
from the top: `plan`, then `settle`, then the ways a step starts, ends and leads on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Playbook, Step, Target, Transition
from executions.domain import events as ev
from executions.domain.conditions import Verdict, evaluate, mentions_failure
from executions.domain.events import Event
from executions.domain.facts import Facts, MissingFacts, Wanted
from executions.domain.jobs import EnqueueJob, render_job
from executions.domain.loops import collect_items, loop_variables, startable
from executions.domain.results import StepResult
from executions.domain.sight import Sight
from executions.domain.state import Live, Scope, State, apply, merge_scopes
from executions.domain.templating import Lookup, render
from executions.errors import TemplateError


@dataclass(slots=True)
class Decision:
    """What follows from an event: the new state, the events to append, the jobs to enqueue.

    `close_jobs`: the execution is over and what is still open of it is to be called off.
    """

    state: State
    events: list[Event] = field(default_factory=list)
    jobs: list[EnqueueJob] = field(default_factory=list)
    close_jobs: bool = False


def plan(playbook: Playbook, state: State, event: Event, facts: Facts) -> Decision:
    """Fold `event` into `state` (which is used up) and decide all that follows.

    Raises: `MissingFacts` when a template needs a stored value that was not loaded, `ImpossibleEvent`; after
    either, `state` must be thrown away.
    """
    planning = _Planning(playbook, state, facts)
    apply(state, event, playbook.index_by_name.__getitem__)
    planning.settle()
    return planning.decision


class _Planning:
    """One planning: the state as it advances, and the decision as it grows."""

    def __init__(self, playbook: Playbook, state: State, facts: Facts) -> None:
        self.playbook = playbook
        self.state = state
        self.facts = facts
        self.decision = Decision(state)
        self.sight = Sight(playbook, state, facts)

    # -- settling ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Act on everything that follows from the state, in file order, until nothing does."""
        state = self.state
        while not state.is_terminal and state.status == "running":
            if state.due or self._loops_with_news():
                self._end_steps()
            elif state.ended:
                self._leave(min(state.ended))
            elif (step := self._next_ready()) is not None:
                self._start(step)
            elif not state.live:
                self._finish()
            else:
                return

    def _emit(self, type_: str, node_id: str, name: str, node_type: str = ev.NODE_STEP, **fields: Any) -> Event:
        event = Event(self.state.seq + 1, type_, node_id, name, node_type, **fields)
        apply(self.state, event, self.playbook.index_by_name.__getitem__)
        self.decision.events.append(event)
        return event

    def _warn(self, step: Step, node_id: str, message: str, **context: Any) -> None:
        self._emit(ev.WARNING, node_id, step.name, status="warning", context=context, error={"message": message})

    def _node_id(self, step: int, index: int | None = None, *, upcoming: bool = False) -> str:
        visit = self.state.visit(step) + (1 if upcoming else 0)
        return ev.step_node_id(self.facts.execution_id, self.playbook.steps[step].name, visit, index)

    # -- which step is next -------------------------------------------------------------------------

    def _next_ready(self) -> int | None:
        """The first waiting step, in file order, that no live branch can still reach.

        When only waiting steps remain, the first of them. A step that is running waits for its own end.
        """
        state = self.state
        if not state.waiting:
            return None
        if len(state.waiting) == 1 and not state.live:
            return next(iter(state.waiting))
        reach = self.playbook.ancestors
        active = _bitmap(state.live) | _bitmap(state.waiting)
        for step in sorted(state.waiting):
            if not active & ~(1 << step) & reach[step] and step not in state.live:
                return step
        return None if state.live else min(state.waiting)

    # -- starting a step ----------------------------------------------------------------------------

    def _start(self, index: int, *, reason: str = "transition") -> None:
        """Start a step: skip it, pass through it, or enqueue its action."""
        step = self.playbook.steps[index]
        node_id = self._node_id(index, upcoming=True)
        if self.state.visit(index) >= self.playbook.max_visits:
            self._fail(
                step,
                node_id,
                {
                    "code": "max_visits",
                    "message": f"step {step.name!r} was to run more than max_visits={self.playbook.max_visits} times",
                },
            )
            return
        scope = merge_scopes(self.state.waiting.get(index, []), index)
        if (verdict := self._skip_verdict(step, scope)) is not None:
            key, told = verdict
            self._emit(
                ev.STEP_SKIP,
                node_id,
                step.name,
                status="skipped",
                context={"because": key, **told.explain()},
                meta={"reason": f"{key}={str(told.truth).lower()}"},
            )
            return
        self._start_unskipped(index, step, node_id, scope, reason)

    def _skip_verdict(self, step: Step, scope: Scope) -> tuple[str, Verdict] | None:
        """Why the step is skipped, or None; a condition that fails to evaluate is told in a warning."""
        lookup = self.sight.lookup(step, scope, self.sight.handed(step, scope))
        for key, condition, skips_when in (("pass", step.skip_if, True), ("when", step.run_if, False)):
            if condition is None:
                continue
            verdict = evaluate(condition, lookup)
            if verdict.warning:
                self._warn(
                    step,
                    self._node_id(self.playbook.index_by_name[step.name], upcoming=True),
                    verdict.warning,
                    **verdict.explain(),
                )
            if verdict.truth is skips_when:
                return key, verdict
        return None

    def _start_unskipped(self, index: int, step: Step, node_id: str, scope: Scope, reason: str) -> None:
        try:
            prepared = self._prepare(step, scope, node_id)
        except TemplateError as error:
            self._emit(ev.STEP_STARTED, node_id, step.name, status="running", meta={"reason": reason})
            self._fail_step(step, node_id, _problem(error))
            return
        self._emit(
            ev.STEP_STARTED,
            node_id,
            step.name,
            status="running",
            context={"inputs": prepared.inputs} if prepared.inputs else None,
            meta={"reason": reason},
        )
        if prepared.items is not None:
            self._start_loop(index, step, node_id, prepared)
        elif prepared.job is not None:
            self.decision.jobs.append(prepared.job)
        else:
            self._complete_step(index, step, node_id)

    def _prepare(self, step: Step, scope: Scope, node_id: str) -> _Prepared:
        """Render what the step needs to start. Raises: `TemplateError`; nothing has been emitted then."""
        own = self.sight.handed(step, scope)
        if step.loop is not None:
            items, failed = collect_items(step.loop, self.sight.lookup(step, scope, own))
            return _Prepared(items=items, filter_warnings=failed)
        if step.action is None:
            return _Prepared(inputs=self.sight.inputs(step, scope, own, {}))
        job = render_job(self.sight, step, scope, node_id, own)
        return _Prepared(inputs=job.action["inputs"], job=job)

    # -- loops --------------------------------------------------------------------------------------

    def _start_loop(self, index: int, step: Step, node_id: str, prepared: _Prepared) -> None:
        items = prepared.items
        assert step.loop is not None and items is not None
        self.facts.items[node_id] = items
        self._emit(
            ev.LOOP_START,
            node_id,
            step.name,
            ev.NODE_LOOP,
            status="running",
            loop_name=step.name,
            context={
                "count": len(items),
                "items": items,
                "element": step.loop.element,
                "mode": step.loop.mode,
            },
        )
        for verdict in prepared.filter_warnings:
            self._warn(step, node_id, verdict.warning, **verdict.explain())

    def _loops_with_news(self) -> bool:
        return any(self._loop_has_news(step, live) for step, live in self.state.live.items())

    def _loop_has_news(self, step: int, live: Live) -> bool:
        loop = self.playbook.steps[step].loop
        if loop is None or live.loop is None:
            return False
        return live.loop.finished == live.loop.started or startable(loop, live.loop) > 0

    def _advance_loop(self, index: int, live: Live) -> None:
        """Start the items that may start now; when none is left and none is running, end the step."""
        step = self.playbook.steps[index]
        loop, counters = step.loop, live.loop
        assert loop is not None and counters is not None
        node_id = self._node_id(index)
        if count := startable(loop, counters):
            items = self._loop_items(node_id)
            handed = self.sight.handed(step, live.scope)
            for place in range(counters.started, counters.started + count):
                self._start_item(index, live, node_id, place, items[place], handed)
                if counters.failed and loop.on_error == "fail":
                    break
        elif counters.finished == counters.started:
            self._complete_loop(index, step, live, node_id)

    def _start_item(
        self, index: int, live: Live, loop_id: str, place: int, item: Any, handed: Mapping[str, Any]
    ) -> None:
        step = self.playbook.steps[index]
        loop, counters = step.loop, live.loop
        assert loop is not None and counters is not None
        node_id = self._node_id(index, place)
        variables = loop_variables(loop, loop_id, step.name, place, item, counters.total)
        fields: dict[str, Any] = {"loop_name": step.name, "index": place}
        self._emit(ev.LOOP_ITERATION, node_id, step.name, ev.NODE_ITERATION, status="running", **fields)
        try:
            job = render_job(self.sight, step, live.scope, node_id, handed, variables, place)
        except TemplateError as error:
            # The item fails like an action that failed: it is counted, and the loop's `on_error` decides.
            problem = _problem(error)
            items_here = self.sight.items_here.setdefault(loop_id, {})
            items_here[place] = StepResult("error", None, problem)
            self._emit(
                ev.ACTION_ERROR,
                node_id,
                step.name,
                ev.NODE_ITERATION,
                status="error",
                error=problem,
                **fields,
            )
            return
        self.decision.jobs.append(job)

    def _loop_items(self, node_id: str) -> list[Any]:
        if node_id not in self.facts.items:
            raise MissingFacts(Wanted(items={node_id}))
        return self.facts.items[node_id]

    def _complete_loop(self, index: int, step: Step, live: Live, node_id: str) -> None:
        loop, counters = step.loop, live.loop
        assert loop is not None and counters is not None
        failed = counters.failed.bit_count()
        told = {"count": counters.finished, "failed": failed, "total": counters.total}
        self._emit(
            ev.LOOP_COMPLETED,
            node_id,
            step.name,
            ev.NODE_LOOP,
            status="error" if failed else "success",
            loop_name=step.name,
            result=told,
        )
        if failed and loop.on_error == "fail":
            first = (counters.failed & -counters.failed).bit_length() - 1
            message = f"{failed} of {counters.total} items failed, the first at index {first}"
            data = self.sight.stored(step, node_id).data if self._has_error_branch(step) else None
            self._fail_step(step, node_id, {"code": "loop_item_failed", "message": message, "index": first}, data)
            return
        self._complete_step(index, step, node_id)

    # -- ending a step ------------------------------------------------------------------------------

    def _end_steps(self) -> None:
        """End every step whose outcome is in, and advance every loop, in file order."""
        for index in sorted(self.state.live):
            live = self.state.live[index]
            if live.loop is not None:
                if self._loop_has_news(index, live):
                    self._advance_loop(index, live)
            elif live.outcome == "success":
                self._complete_step(index, self.playbook.steps[index], self._node_id(index))
            elif live.outcome == "error":
                node_id = self._node_id(index)
                step = self.playbook.steps[index]
                stored = self.sight.stored(step, node_id)
                self._fail_step(step, node_id, stored.error, stored.data)

    def _complete_step(self, index: int, step: Step, node_id: str) -> None:
        """End a step well; its `result` (on `end`) is rendered now."""
        fields: dict[str, Any] = {}
        if step.result is not None:
            scope = self.state.live[index].scope
            handed = self.sight.handed(step, scope)
            try:
                own = self._own_result(index, step, node_id)
                result = render(step.result, self.sight.lookup(step, scope, {**handed, **own}))
            except TemplateError as error:
                self._fail_step(step, node_id, _problem(error))
                return
            fields["result"] = result
            self.sight.ended_here[node_id] = StepResult("success", result)
        elif step.action is None:
            self.sight.ended_here[node_id] = StepResult("success")
        self._emit(ev.STEP_COMPLETED, node_id, step.name, status="success", **fields)

    def _own_result(self, index: int, step: Step, node_id: str) -> dict[str, Any]:
        """What an `end` with an action of its own shows of it to its `result`."""
        if step.action is None or step.name not in step.start_reads:
            return {}
        return {step.name: self.sight.stored(step, node_id)}

    def _fail_step(self, step: Step, node_id: str, error: Any, data: Any = None) -> None:
        self.sight.ended_here[node_id] = StepResult("error", data, error)
        self._emit(ev.STEP_FAILED, node_id, step.name, status="error", error=error)

    # -- leading on ---------------------------------------------------------------------------------

    def _leave(self, index: int) -> None:
        """Evaluate the `next` of a step that has ended, or fail the execution with it."""
        step = self.playbook.steps[index]
        node_id = self._node_id(index)
        status = self.state.step_status(index)
        failed = status == "error"
        if failed and not self._has_error_branch(step):
            self._fail(step, node_id, self.sight.stored(step, node_id).error)
            return
        scope = self.state.ended[index]
        choice = self._choose(step, index, node_id, scope)
        if failed and not choice.taken:
            self._fail(step, node_id, self.sight.stored(step, node_id).error)
            return
        try:
            taken = [{"step": target.step, "inputs": render(target.inputs, choice.lookup)} for target in choice.taken]
        except TemplateError as error:
            self._fail(step, node_id, _problem(error))
            return
        merged = _merge_targets(taken)
        for verdict in choice.verdicts:
            if verdict.warning:
                self._warn(step, node_id, verdict.warning, **verdict.explain())
        event = self._emit(
            ev.TRANSITION_EVALUATED,
            node_id,
            step.name,
            ev.NODE_TRANSITION,
            status=status or "",
            context={"items": choice.explained, "taken": merged},
        )
        self.facts.transitions[event.seq] = {item["step"]: item["inputs"] for item in merged}

    def _has_error_branch(self, step: Step) -> bool:
        return any(item.when is not None and mentions_failure(item.when, step.name) for item in step.next)

    def _choose(self, step: Step, index: int, node_id: str, scope: Scope) -> _Choice:
        """Which targets fire: every true condition, then the defaults when none was true."""
        lookup = self.sight.lookup(step, scope, {}, ended=True)
        choice = _Choice(lookup)
        matched = False
        for item in step.next:
            if item.kind == "always":
                choice.take(item, item.then, None)
            elif item.kind == "condition":
                if matched and step.next_mode == "exclusive":
                    choice.take(item, (), None)
                    continue
                verdict = evaluate(item.when, lookup)
                matched = matched or verdict.truth
                choice.take(item, item.then if verdict.truth else item.otherwise, verdict)
        for item in step.next:
            if item.kind == "default":
                choice.take(item, () if matched else item.then, None)
        return choice

    # -- the end of the execution -------------------------------------------------------------------

    def _finish(self) -> None:
        """Nothing runs or waits: run `end` once if no branch reached it, else the execution is complete."""
        end = self.playbook.index_by_name.get("end")
        if end is not None and not self.state.visit(end):
            self._start(end, reason="quiescence")
            return
        result = None
        if end is not None and self.state.step_status(end) == "success":
            step = self.playbook.steps[end]
            if step.result is not None or step.action is not None:
                result = self.sight.stored(step, self._node_id(end)).data
        self._emit(
            ev.EXECUTION_COMPLETED,
            self.facts.execution_id,
            self.playbook.name,
            ev.NODE_EXECUTION,
            status="completed",
            result=result,
        )
        # Those that were enqueued by hand: no step waits for them.
        self.decision.close_jobs = True

    def _fail(self, step: Step, node_id: str, error: Any) -> None:
        """End the execution as failed, with the first failing step as the root cause."""
        cause = {**error, "step": step.name, "node_id": node_id}
        self._emit(
            ev.EXECUTION_FAILED,
            self.facts.execution_id,
            self.playbook.name,
            ev.NODE_EXECUTION,
            status="failed",
            error=cause,
        )
        self.decision.close_jobs = True


@dataclass(slots=True)
class _Prepared:
    """What a step needs to start: its inputs, its job, or the items of its loop."""

    inputs: dict[str, Any] = field(default_factory=dict)
    job: EnqueueJob | None = None
    items: list[Any] | None = None
    filter_warnings: list[Verdict] = field(default_factory=list)


@dataclass(slots=True)
class _Choice:
    """The targets a `next` leads to, and why."""

    lookup: Lookup
    taken: list[Target] = field(default_factory=list)
    explained: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def take(self, item: Transition, targets: tuple[Target, ...], verdict: Verdict | None) -> None:
        told: dict[str, Any] = {"kind": item.kind, "taken": [target.step for target in targets]}
        if verdict is not None:
            told.update(verdict.explain())
            self.verdicts.append(verdict)
        elif item.when is not None:
            told["expression"] = item.when
        self.taken.extend(targets)
        self.explained.append(told)


def _problem(error: TemplateError) -> dict[str, Any]:
    """A template's failure as an event's error."""
    return {"code": error.code, "message": str(error), "template": error.template}


def _merge_targets(taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each target once, in the order of its first mention; of equal input names the later one wins."""
    merged: dict[str, dict[str, Any]] = {}
    for item in taken:
        merged.setdefault(item["step"], {}).update(item["inputs"])
    return [{"step": step, "inputs": inputs} for step, inputs in merged.items()]


def _bitmap(steps: Mapping[int, object]) -> int:
    bits = 0
    for step in steps:
        bits |= 1 << step
    return bits
