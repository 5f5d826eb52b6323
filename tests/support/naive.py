"""A second, naive interpreter of playbooks, to hold the planner against.

It knows no events, no state that could be stored and no facts to load: steps call one another back through plain
Python objects, jobs wait in one queue and finish in the order they started. Written from the rules (docs/language.md),
without a look at the planner. It shares with the product the rendering of templates and the truth of conditions.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from catalog.domain.playbook import Playbook, Save, Step, Target
from executions.domain.conditions import evaluate, mentions_failure
from executions.domain.results import MISSING, StepResult
from executions.domain.start import build_workload
from executions.domain.templating import Lookup, render
from executions.errors import ExecutionError, TemplateError
from tests.support.naive_loops import Items, collect, failed, wants

Answer = Callable[[str, int, dict[str, Any]], Any]
"""What an action gives for a node (`step[:index ...][#visit]`), the number of the try from 1, and its inputs."""

Path = tuple[int, ...]


@dataclass
class Outcome:
    """What came of an execution. Nodes are named as node ids are, without the execution.

    `statuses` are those of steps, `runs` counts how often each node's action ran. `torn` tells that work was dropped
    or not started after a failure, so that another order of arrival may have another outcome.
    """

    status: str = "completed"
    result: Any = None
    error_code: str | None = None
    failing_step: str | None = None
    statuses: dict[str, str] = field(default_factory=dict)
    scheduled: list[str] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    torn: bool = False


@dataclass
class Cause:
    """Why a frame failed."""

    code: str
    step: str
    message: str = ""


@dataclass
class Visit:
    """One visit of a step: its number in node ids, the inputs in sight, and those handed to the step itself."""

    number: int
    scope: dict[str, Any]
    handed: dict[str, Any]
    result: StepResult = field(default_factory=lambda: StepResult("success"))


@dataclass
class Arrival:
    """A branch that came to a step: from where, with what it was handed and what came along from further up."""

    source: int
    handed: dict[str, Any]
    along: dict[str, Any]


@dataclass
class Job:
    """An action that waits for its answer."""

    frame: Frame
    node: str
    inputs: dict[str, Any]
    tries: int
    done: Callable[[StepResult], None]


def interpret(playbook: Playbook, answer: Answer, payload: Mapping[str, Any] | None = None) -> Outcome:
    """Run a playbook to its end, whatever it is."""
    return World(playbook, answer, build_workload(playbook, payload or {}, {}, "job", merge=False)).interpret()


@dataclass(eq=False)
class World:
    """One execution: the queue of jobs, and what holds for the whole of it."""

    playbook: Playbook
    answer: Answer
    workload: dict[str, Any]
    outcome: Outcome = field(default_factory=Outcome)
    queue: deque[Job] = field(default_factory=deque)
    cause: Cause | None = None
    finishing: bool = False
    undoable: list[tuple[Frame, int, Visit]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = Frame(self, None, None, (), 0, {}, self.fail)

    def interpret(self) -> Outcome:
        outcome, places = self.outcome, self.playbook.index_by_name
        self.root.begin(places["start"])
        self.work_off()
        end = places.get("end")
        if self.cause is None and end is not None and not self.root.visits[end]:
            self.root.begin(end)
            self.work_off()
        if self.cause is not None:
            self.undo()
        elif end in self.root.results:
            outcome.result = self.root.results[end].data
        if self.playbook.finally_steps:
            self.finishing = True
            self.root.over = False
            self.root.begin(*(places[name] for name in self.playbook.finally_steps))
            self.work_off()
        if self.cause is not None:
            outcome.status, outcome.result = "failed", None
            outcome.error_code, outcome.failing_step = self.cause.code, self.cause.step
        return outcome

    def work_off(self) -> None:
        while self.queue:
            job = self.queue.popleft()
            job.done(self.run_action(job))

    def run_action(self, job: Job) -> StepResult:
        """A job's answer, after all its tries."""
        result = StepResult("error")
        for _ in range(job.tries):
            self.outcome.runs[job.node] += 1
            try:
                return StepResult("success", self.answer(job.node, self.outcome.runs[job.node], job.inputs))
            except Exception as error:
                # An action may fail in any way: here the test says how.
                result = StepResult("error", None, {"code": "boom", "message": str(error)})
        return result

    def ask(self, job: Job) -> None:
        self.outcome.scheduled.append(job.node)
        self.queue.append(job)

    def drop_dead_work(self) -> None:
        self.queue = deque(job for job in self.queue if job.frame.alive)
        self.outcome.torn = True

    def fail(self, cause: Cause | None) -> None:
        """What the root frame's end means; its quiescence means nothing by itself."""
        self.cause = self.cause or cause

    def undo(self) -> None:
        """Undo what was completed, the newest first, one at a time; a failing undo stops nothing."""
        for frame, index, visit in reversed(self.undoable):
            step = self.playbook.steps[index]
            node = f"{frame.node(index, visit.number)}#undo"
            try:
                inputs = render(step.undo_inputs, frame.lookup(index, visit.scope, own=visit.result))
            except TemplateError:
                continue
            self.ask(Job(self.root, node, inputs, 1, lambda result: None))
            self.work_off()


@dataclass(eq=False)
class Frame:
    """A set of steps that run together: the root's, or those of one item of a loop over several steps.

    `base`: visits in node ids start after it. `done` is told once that the frame is over, and why it failed.
    `absorbed` holds, for a `join: any` that has run, the steps of the wave it ran for.
    """

    world: World
    parent: Frame | None
    loop: int | None
    path: Path
    base: int
    variables: dict[str, Any]
    done: Callable[[Cause | None], None]
    over: bool = False
    busy: bool = False
    visits: Counter[int] = field(default_factory=Counter)
    results: dict[int, StepResult] = field(default_factory=dict)
    waiting: dict[int, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    live: dict[int, Visit] = field(default_factory=dict)
    ended: dict[int, Visit] = field(default_factory=dict)
    absorbed: dict[int, set[int]] = field(default_factory=dict)

    @property
    def playbook(self) -> Playbook:
        return self.world.playbook

    @property
    def alive(self) -> bool:
        return not self.over and (self.parent is None or self.parent.alive)

    def node(self, index: int, number: int, *items: int) -> str:
        places = "".join(f":{place}" for place in (*self.path, *items))
        return self.playbook.steps[index].name + places + (f"#{number}" if number > 1 else "")

    # -- branches ---------------------------------------------------------------------------------------

    def begin(self, *steps: int) -> None:
        """Start branches at these steps, as nobody's targets."""
        for index in steps:
            self.waiting[index].append(Arrival(-1, {}, {}))
        self.settle()

    def for_item(self, loop: int, number: int, base: int, variables: dict[str, Any]) -> Frame:
        """A frame for one item of a loop over several steps."""
        return Frame(self.world, self, loop, (*self.path, number), base, variables, lambda cause: None)

    def enter(self) -> None:
        """Begin an item: the loop step's own `next`, for this item."""
        assert self.loop is not None and self.parent is not None
        scope = self.parent.live[self.loop].scope
        self.follow(self.loop, scope, lambda: self.taken(self.loop_step, scope))
        self.settle()

    @property
    def loop_step(self) -> Step:
        assert self.loop is not None
        return self.playbook.steps[self.loop]

    def settle(self) -> None:
        """Let branches go on as far as they can without an answer; nothing left to do is the frame's end."""
        if self.busy:
            return
        self.busy = True
        while self.alive:
            if self.ended:
                self.leave(min(self.ended))
            elif (index := self.choose()) is not None:
                self.fire(index)
            else:
                break
        self.busy = False
        if self.alive and not self.live and self.parent is not None:
            self.over = True
            self.done(None)

    def fail(self, code: str, index: int, message: str = "") -> None:
        cause = Cause(code, self.playbook.steps[index].name, message)
        if self.world.finishing and self.parent is None:
            self.world.fail(cause)  # The other branches of `finally` go on.
            return
        self.over = True
        for steps in (self.waiting, self.live, self.ended, self.absorbed):
            steps.clear()
        self.world.drop_dead_work()
        self.done(cause)

    def choose(self) -> int | None:
        """The waiting step that starts now, if any does."""
        active = self.live.keys() | self.waiting.keys()
        ready = sorted(self.waiting.keys() - self.live.keys())
        for index in ready:
            if self.playbook.steps[index].join == "any" or not self.reaching(index, active - {index}):
                return index
        return ready[0] if ready and not self.live else None

    def reaching(self, index: int, steps: set[int]) -> set[int]:
        """Those of the steps that can still lead to this one."""
        return {other for other in steps if self.playbook.ancestors[index] >> other & 1}

    def fire(self, index: int) -> None:
        """Start a visit of a waiting step."""
        step = self.playbook.steps[index]
        arrivals = sorted(self.waiting.pop(index), key=lambda arrival: arrival.source)
        if step.join == "all" and self.inner_predecessors(index) - {arrival.source for arrival in arrivals}:
            self.fail("join_incomplete", index)
            return
        if step.join == "any":
            active = self.live.keys() | self.waiting.keys() | self.ended.keys()
            self.absorbed[index] = self.reaching(index, active - {index})
        self.visits[index] += 1
        number = self.base + self.visits[index]
        if self.visits[index] > self.playbook.max_visits:
            self.fail("max_visits", index)
            return
        along = {name: value for arrival in arrivals for name, value in arrival.along.items()}
        handed = {name: value for arrival in arrivals for name, value in arrival.handed.items()}
        self.live[index] = Visit(number, {**along, **handed}, handed)
        self.perform(index)

    def inner_predecessors(self, index: int) -> set[int]:
        return {
            other
            for other, loops in enumerate(self.playbook.enclosing)
            if self.playbook.predecessors[index] >> other & 1 and loops == self.playbook.enclosing[index]
        }

    def leave(self, index: int) -> None:
        """A step is over: find what comes after it, or who handles its failure."""
        visit = self.ended.pop(index)
        step, scope, own = self.playbook.steps[index], visit.scope, visit.result
        beyond = self.playbook.handlers_region | self.playbook.finally_region
        if own.status != "error" or step.on_error == "continue" or self.handles(step, scope, own):
            self.follow(index, scope, lambda: self.after(step, scope, own))
        elif step.on_error == "route":
            self.follow(index, scope, lambda: self.hand(step.error_targets, index, scope, own))
        elif self.playbook.on_error and self.parent is None and not beyond >> index & 1:
            self.follow(index, scope, lambda: self.hand(self.playbook.on_error, index, scope, own))
        else:
            self.fail(own.error["code"], index, own.error["message"])

    def handles(self, step: Step, scope: dict[str, Any], own: StepResult) -> bool:
        """Whether some condition of the step's `next` asks for its failure, and some transition is taken."""
        asks = any(item.when is not None and mentions_failure(item.when, step.name) for item in step.next)
        over_steps = step.loop is not None and step.loop.end is not None
        try:
            return asks and not over_steps and bool(self.taken(step, scope, own))
        except TemplateError:
            return True

    def after(self, step: Step, scope: dict[str, Any], own: StepResult) -> dict[str, dict[str, Any]]:
        """Where a step leads; a loop over several steps leads to its end, for its `next` is that of each item."""
        if step.loop is not None and step.loop.end is not None:
            return {step.loop.end: {}}
        return self.taken(step, scope, own)

    def follow(self, source: int, scope: dict[str, Any], find: Callable[[], dict[str, dict[str, Any]]]) -> None:
        """Arrive at the targets, except where a join has taken the wave already."""
        try:
            taken = find()
        except TemplateError as error:
            self.fail(error.code, source, str(error))
            return
        end = self.loop_step.loop.end if self.loop is not None and self.loop_step.loop is not None else None
        places = {self.playbook.index_by_name[name]: inputs for name, inputs in taken.items() if name != end}
        arrived = {index for index in places if source not in self.absorbed.get(index, ())}
        for join, wave in list(self.absorbed.items()):
            if source in wave:
                wave.remove(source)
                wave.update(self.reaching(join, arrived - {join}))
            if not wave:
                del self.absorbed[join]
        for index in sorted(arrived):
            self.waiting[index].append(Arrival(source, places[index], scope))

    def taken(self, step: Step, scope: dict[str, Any], own: StepResult | None = None) -> dict[str, dict[str, Any]]:
        """The targets of the transitions that fire, with the inputs handed over."""
        index = self.playbook.index_by_name[step.name]
        lookup = self.lookup(index, scope, own=own)
        chosen: list[tuple[Target, ...]] = []
        matched = False
        for item in step.next:
            if item.kind == "always":
                chosen.append(item.then)
            elif item.kind == "condition" and not (matched and step.next_mode == "exclusive"):
                truth = evaluate(item.when, lookup).truth
                matched = matched or truth
                chosen.append(item.then if truth else item.otherwise)
        if not matched:
            chosen += [item.then for item in step.next if item.kind == "default"]
        return self.hand([target for targets in chosen for target in targets], index, scope, own)

    def hand(
        self, targets: tuple[Target, ...] | list[Target], index: int, scope: dict[str, Any], own: StepResult | None
    ) -> dict[str, dict[str, Any]]:
        lookup = self.lookup(index, scope, own=own)
        taken: dict[str, dict[str, Any]] = {}
        for target in targets:
            taken.setdefault(target.step, {}).update(render(target.inputs, lookup))
        return taken

    # -- one step ---------------------------------------------------------------------------------------

    def perform(self, index: int) -> None:
        """Skip the step, or do its work."""
        step, visit = self.playbook.steps[index], self.live[index]
        lookup = self.lookup(index, visit.scope)
        skipped = step.skip_if is not None and evaluate(step.skip_if, lookup).truth
        if skipped or (step.run_if is not None and not evaluate(step.run_if, lookup).truth):
            self.finish_step(index, StepResult("skipped"))
            return
        try:
            if step.loop is not None:
                Items(self, index, step.loop, collect(step.loop, lookup)).pump()
            elif step.action is not None or step.child is not None:
                self.ask_action(index, {}, (), lambda result: self.job_over(index, result))
            else:
                self.end_step(index, StepResult("success"))
        except ExecutionError as error:
            nothing = {"results": [], "result": [], "count": 0, "errors": []} if step.loop is not None else None
            self.finish_step(index, StepResult("error", nothing, failed(error).error))

    def ask_action(
        self, index: int, variables: dict[str, Any], items: Path, done: Callable[[StepResult], None]
    ) -> None:
        """Ask for the step's action, for itself or for one item of its inline loop. Raises: `TemplateError`."""
        step, visit = self.playbook.steps[index], self.live[index]
        inputs = {**render(step.inputs, self.lookup(index, visit.scope, variables)), **visit.handed}
        tries = step.retry.max_attempts if step.retry is not None else 1
        self.world.ask(Job(self, self.node(index, visit.number, *items), inputs, tries, done))

    def job_over(self, index: int, result: StepResult) -> None:
        self.end_step(index, result)
        self.settle()

    def end_step(self, index: int, result: StepResult) -> None:
        """A step's work is done, well or not: what it saves comes before its end."""
        step, visit = self.playbook.steps[index], self.live[index]
        given = result
        if result.status == "success" and step.result is not None:
            try:
                data = render(step.result, self.lookup(index, visit.scope, own=result))
                result = StepResult("success", data, meta=result.meta)
            except TemplateError as error:
                self.finish_step(index, failed(error))
                return
        if step.save is None:
            self.finish_step(index, result)
        else:
            self.save(index, step.save, given, result)

    def save(self, index: int, save: Save, given: StepResult, result: StepResult) -> None:
        """Save what a step came to; `given` is what its work gave."""
        visit = self.live[index]
        shown = replace(result, meta=None)
        loop = self.playbook.steps[index].loop
        whole = {name: shown.data[name] for name in ("results", "errors", "count")} if loop is not None else {}
        lookup = self.lookup(index, visit.scope, {**shown.envelope(), "this": shown.envelope(), **whole}, own=shown)
        if not wants(save, shown, lookup):
            self.finish_step(index, replace(result, meta=result.meta or {}))
            return

        def saved(told: StepResult) -> None:
            meta = {"save": told.data} if told.status == "success" else {"save_error": told.error}
            ended = result
            if result.status == "success" and told.status == "error" and save.on_error == "fail":
                # A `result` of its own is not kept.
                data = given.data if self.playbook.steps[index].has_work else None
                ended = StepResult("error", data, {"code": "save_failed", "message": "not saved"})
            self.finish_step(index, replace(ended, meta={**(result.meta or {}), **meta}))

        try:
            data = render(save.action.arguments["data"], lookup)
        except TemplateError as error:
            saved(failed(error))
            return

        def over(told: StepResult) -> None:
            saved(told)
            self.settle()

        self.ask_save(save, f"{self.node(index, visit.number)}#save", data, over)

    def ask_save(self, save: Save, node: str, data: Any, done: Callable[[StepResult], None]) -> None:
        """Ask for a job that saves."""
        tries = save.retry.max_attempts if save.retry is not None else 1
        self.world.ask(Job(self, node, {"data": data}, tries, done))

    def finish_step(self, index: int, result: StepResult) -> None:
        """A step is over."""
        step, visit = self.playbook.steps[index], self.live[index]
        visit.result = result
        self.ended[index] = self.live.pop(index)
        self.results[index] = result
        self.world.outcome.statuses[self.node(index, visit.number)] = result.status
        if step.undo is not None and result.status == "success":
            self.world.undoable.append((self, index, visit))

    # -- what templates see -----------------------------------------------------------------------------

    def lookup(
        self,
        index: int,
        scope: Mapping[str, Any],
        variables: Mapping[str, Any] | None = None,
        own: StepResult | None = None,
    ) -> Lookup:
        """Names to values for the templates of a step; `own` is its result, once it is over."""
        values = {**scope, **self.variables, **(variables or {})}

        def result(name: str) -> Any:
            place = self.playbook.index_by_name.get(name)
            if place == index and own is not None:
                return own
            if place is None or not self.playbook.ancestors[index] >> place & 1:
                return MISSING
            # Only a `join: any` can look while a step runs again: what it gave before counts no more.
            return MISSING if place != index and self.runs(place) else self.result_of(place)

        def find(name: str) -> Any:
            if name == "workload":
                return self.world.workload
            if name == "steps":
                found = {each: result(each) for each in self.playbook.index_by_name}
                return {each: one.envelope() for each, one in found.items() if one is not MISSING}
            if name in values:
                return values[name]
            if own is not None and name in ("status", "error", "result"):
                return {"status": own.status, "error": own.error, "result": own.data}[name]
            if name.endswith("_results") and (loop := result(name.removesuffix("_results"))) is not MISSING:
                return loop.data["results"] if loop.data else []
            if (one := result(name)) is not MISSING:
                return one
            return self.world.workload.get(name, MISSING)

        return find

    def runs(self, index: int) -> bool:
        """Whether the step is running in this frame; a loop around this frame always is, and shows what it gave."""
        return index in self.live

    def result_of(self, index: int) -> Any:
        """The newest result of a step of this frame or of one around it."""
        if index in self.results:
            return self.results[index]
        return self.parent.result_of(index) if self.parent is not None else MISSING
