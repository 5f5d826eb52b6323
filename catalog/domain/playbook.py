"""The typed playbook: what every accepted spelling is normalised into, once, at registration.

Knows the shape of a playbook and nothing of YAML, positions, spellings, templates' values or storage.
A text anywhere in `workload`, `inputs`, `arguments`, `result` and the conditions may be a template;
`executions` renders it. Source of the rules: docs/language.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from catalog.domain.graph import ancestor_bitmaps, bits_of, reachable_from
from catalog.domain.spelling import SECRETS

FORMAT = 4
"""Version of the normalised form; it rises when an old form can no longer be read as it is."""

MAX_VISITS = 10_000
"""What `max_visits` may be at most: one planning may go through all of them."""

MAX_PRIORITY = 100
POOL_PATTERN = "[a-z0-9_-]{1,50}"


class Part(BaseModel):
    """One immutable part of a playbook; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Action(Part):
    """An action kind and its arguments, as the playbook gives them (not rendered)."""

    kind: Annotated[str, Field(description="Name of the action kind: python, http, postgres, duckdb.")]
    arguments: Annotated[dict[str, Any], Field(description="Arguments of the kind, templates unrendered.")] = {}
    verbatim: Annotated[tuple[str, ...], Field(description="Arguments that are never templates, such as `code`.")] = ()
    sql: Annotated[tuple[str, ...], Field(description="Arguments that are SQL templates (contextual escaping).")] = ()
    task: Annotated[str | None, Field(description="The workbook task this action was taken from.")] = None


class Child(Part):
    """Another playbook, run as an execution of its own."""

    path: Annotated[str, Field(description="Path in the catalog, or a template that gives one.")]
    version: Annotated[str | None, Field(description="None: the newest when the child starts.")] = None
    answer: Annotated[
        str | None, Field(description="`return`: a step of the child, or a template over its final context.")
    ] = None


class Wait(Part):
    """Waiting for time, for a signal or for somebody's approval; nothing runs meanwhile."""

    kind: Literal["duration", "until", "signal", "approval"]
    what: Annotated[Any, Field(description="Seconds or a text as 5m; a time, RFC 3339; a signal's name; a message.")]
    form: Annotated[dict[str, Any], Field(description="`approval`: the fields that are asked for.")] = {}
    approvers: Annotated[tuple[str, ...], Field(description="Users and groups that may answer; none: anyone.")] = ()


class Retry(Part):
    """When a failed action is tried again."""

    max_attempts: Annotated[int, Field(ge=1, description="Tries in all.")] = 3
    initial_delay: Annotated[float, Field(ge=0, description="Seconds before the second try.")] = 1.0
    backoff_multiplier: Annotated[float, Field(ge=1)] = 2.0
    max_delay: Annotated[float, Field(ge=0, description="Seconds at most.")] = 60.0
    jitter: Annotated[float, Field(ge=0, le=1, description="Share of the delay that varies.")] = 0.0
    retry_when: Annotated[str | None, Field(description="Condition: only then again.")] = None
    stop_when: Annotated[str | None, Field(description="Condition: no more then.")] = None


class Save(Part):
    """What is written somewhere when a work has ended: an action of the kind `save`, and when it runs.

    Of an item of a loop: `chunk_size` items are saved by one job, of which `concurrency` run at once at most.
    """

    action: Action
    when: Annotated[str | None, Field(description="Condition: only then.")] = None
    on: Annotated[Literal["success", "error", "always"], Field(description="How the work ended.")] = "success"
    on_error: Annotated[Literal["continue", "fail"], Field(description="`fail`: the step fails with it.")] = "continue"
    retry: Retry | None = None
    timeout_seconds: Annotated[float | None, Field(gt=0, description="None: the step's.")] = None
    chunk_size: Annotated[int, Field(ge=1)] = 100
    concurrency: Annotated[int | None, Field(ge=1)] = None


class Loop(Part):
    """A step's work, once per item of a collection: its action or child, or the steps up to its `end`."""

    items: Annotated[Any, Field(description="A list, or a template that gives one.")] = None
    items_under: Annotated[str | None, Field(description="Instead of `items`: every catalog path below.")] = None
    element: Annotated[str, Field(description="Name of the variable that holds the item.")]
    filter: Annotated[str | None, Field(description="Condition per item; false leaves the item out.")] = None
    order_by: Annotated[str | None, Field(description="Template per item that gives its sort key.")] = None
    limit: Annotated[Any, Field(description="Items at most: a number, or a template that gives one.")] = None
    chunk: Annotated[int | None, Field(ge=1, description="So many items are one, as a list.")] = None
    enumerate: Annotated[bool, Field(description="`index` is seen, too.")] = False
    mode: Literal["parallel", "sequential"] = "parallel"
    concurrency: Annotated[int | None, Field(ge=1, description="Items in flight at most; none: no bound.")] = None
    on_error: Literal["fail", "continue"] = "fail"
    save: Annotated[Save | None, Field(description="Of each item, many items at a time.")] = None
    end: Annotated[str | None, Field(description="The step that closes a loop over several steps.")] = None


class Limit(Part):
    """A bound on how many jobs with one key are leased at once, over all executions of all playbooks."""

    key: Annotated[str, Field(description="A text, or a template that gives one, per item of a loop.")]
    max: Annotated[int, Field(ge=1)]


_Priority = Annotated[int | None, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Higher runs first.")]
_Pool = Annotated[str | None, Field(pattern=f"^{POOL_PATTERN}$", description="Whose workers run it.")]


class Target(Part):
    """Where a transition leads, with the inputs it hands over."""

    step: str
    inputs: dict[str, Any] = {}


class Transition(Part):
    """One item of a step's `next`.

    `always`: fires whatever else does. `condition`: `then` fires when `when` is true, `otherwise` (an `else`
    inside the same item) when it is false. `default`: fires when no condition of this `next` was true.
    """

    kind: Literal["always", "condition", "default"]
    when: Annotated[str | None, Field(description="The condition's template text; only for `condition`.")] = None
    then: tuple[Target, ...] = ()
    otherwise: tuple[Target, ...] = ()


Occasion = Literal["failure", "success", "cancelled", "late"]


class Notice(Part):
    """When a step that sends a notification of the playbook runs: beside the workflow, and never as a part of it."""

    on: Annotated[tuple[Occasion, ...], Field(description="Ways to end, or `late` alone.")]
    late_after_seconds: Annotated[float | None, Field(gt=0, description="Of `late`: since the start.")] = None


class Step(Part):
    """One step: what it does, when it is skipped, and where it leads."""

    name: str
    description: str = ""
    action: Annotated[Action | None, Field(description="None: the step only routes.")] = None
    inputs: Annotated[dict[str, Any], Field(description="Inputs of the action (`with`), unrendered.")] = {}
    skip_if: Annotated[Any, Field(description="`pass`: true skips the action.")] = None
    run_if: Annotated[Any, Field(description="`when`: false skips the action; None: always runs.")] = None
    child: Child | None = None
    wait: Wait | None = None
    loop: Loop | None = None
    end_loop: Annotated[str | None, Field(description="The loop over several steps that this step closes.")] = None
    join: Annotated[Literal["any", "all"] | None, Field(description="None: waits for all live branches.")] = None
    retry: Retry | None = None
    on_error: Annotated[
        Literal["fail", "continue", "route"],
        Field(description="Of a failure no condition handles; `continue`: `next` is evaluated; `route`: see there."),
    ] = "fail"
    error_targets: Annotated[tuple[Target, ...], Field(description="Where `on_error: route` leads.")] = ()
    undo: Annotated[Action | None, Field(description="Runs when the execution fails after this step.")] = None
    undo_inputs: dict[str, Any] = {}
    save: Annotated[Save | None, Field(description="Runs after the work; the step ends when it has.")] = None
    next: tuple[Transition, ...] = ()
    next_mode: Literal["inclusive", "exclusive"] = "inclusive"
    timeout_seconds: Annotated[float | None, Field(gt=0)] = None
    priority: _Priority = None
    pool: _Pool = None
    limit: Limit | None = None
    result: Annotated[
        Any,
        Field(description="Rendered when the step ends, and its result then: `end`, `end_loop` and transform steps."),
    ] = None
    notice: Annotated[Notice | None, Field(description="It is a notification of the playbook's `notify`.")] = None
    start_reads: Annotated[tuple[str, ...], Field(description="Names its templates read when it starts, sorted.")] = ()
    next_reads: Annotated[tuple[str, ...], Field(description="Names its `next` reads, sorted.")] = ()

    @property
    def has_work(self) -> bool:
        """Whether something is done that takes its time: an action, a child playbook or a wait."""
        return self.action is not None or self.child is not None or self.wait is not None

    @property
    def saves(self) -> tuple[Save, ...]:
        """What is saved of the step and of the items of its loop."""
        of_items = None if self.loop is None else self.loop.save
        return tuple(save for save in (self.save, of_items) if save is not None)

    @property
    def gives_result(self) -> bool:
        """Whether the step has a result of its own, and does not only route."""
        return self.has_work or self.result is not None


class Playbook(Part):
    """A whole playbook in its one internal form; steps in file order."""

    format: Literal[4] = 4
    name: str
    path: str
    description: str = ""
    workload: dict[str, Any] = {}
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    max_visits: Annotated[int, Field(ge=1, le=MAX_VISITS, description="Visits of one step at most.")] = 1000
    timeout_seconds: Annotated[float | None, Field(gt=0)] = None
    priority: _Priority = None
    pool: _Pool = None
    max_running_jobs: Annotated[
        int | None, Field(ge=1, description="Leased at once over all executions of the playbook's path.")
    ] = None
    on_error: Annotated[
        tuple[Target, ...], Field(description="Where a failure leads that its step does not handle.")
    ] = ()
    finally_steps: Annotated[tuple[str, ...], Field(description="Run before the end, however it comes.")] = ()
    coerce: Literal["native", "legacy"] = "native"

    @cached_property
    def index_by_name(self) -> dict[str, int]:
        """Step name -> place in file order."""
        return {step.name: index for index, step in enumerate(self.steps)}

    @cached_property
    def secret_steps(self) -> frozenset[str]:
        """The steps whose result is a reference to a secret."""
        return frozenset(step.name for step in self.steps if step.action is not None and step.action.kind == SECRETS)

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """For each step the places of the steps that it can lead to, on any way, sorted."""
        return tuple(tuple(sorted(self._targets(step))) for step in self.steps)

    @cached_property
    def loop_end_keys(self) -> dict[str, tuple[str, ...]]:
        """Keys of the `result` of steps that close a loop -> those steps, the last in file order first."""
        keys: dict[str, tuple[str, ...]] = {}
        for step in self.steps:
            if step.end_loop is not None and isinstance(step.result, dict):
                for key in step.result:
                    keys[key] = (step.name, *keys.get(key, ()))
        return keys

    @cached_property
    def predecessors(self) -> tuple[int, ...]:
        """For each step a bitmap of the steps whose `next` names it, and of the loop that it closes."""
        bitmaps = [0] * len(self.steps)
        for source, step in enumerate(self.steps):
            names = {target.step for target in targets_of(step)}
            if step.loop is not None and step.loop.end is not None:
                names.add(step.loop.end)
            for name in names:
                bitmaps[self.index_by_name[name]] |= 1 << source
        return tuple(bitmaps)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each step a bitmap: bit i is set when step i can reach it by at least one transition.

        Every branch leads to `end` at last, whether it says so or not, and all of it before the steps of `finally`.
        After those come notifications of how it ended; one of lateness comes at any time, and nothing leads to it.
        """
        bitmaps = list(ancestor_bitmaps(self.successors))
        everything = (1 << len(self.steps)) - 1 & ~self.notices
        if (end := self.index_by_name.get("end")) is not None:
            bitmaps[end] |= everything & ~(1 << end) & ~self.finally_region
        for index, step in enumerate(self.steps):
            if self.finally_region >> index & 1:
                bitmaps[index] |= everything & ~self.finally_region
            elif step.notice is not None and "late" not in step.notice.on:
                bitmaps[index] = everything
        return tuple(bitmaps)

    @cached_property
    def notices(self) -> int:
        """A bitmap of the steps that send the playbook's notifications."""
        return sum(1 << index for index, step in enumerate(self.steps) if step.notice is not None)

    @cached_property
    def finally_region(self) -> int:
        """A bitmap of the steps that `finally` leads to."""
        return self._region(self.finally_steps)

    @cached_property
    def handlers_region(self) -> int:
        """A bitmap of the steps that the playbook's `on_error` leads to: their failures it does not handle."""
        return self._region(target.step for target in self.on_error)

    @cached_property
    def bodies(self) -> dict[int, int]:
        """For each loop over several steps a bitmap of its body: neither the loop's own step nor its end."""
        bodies = {}
        for index, step in enumerate(self.steps):
            if step.loop is not None and step.loop.end is not None:
                bodies[index] = self._body(index, self.index_by_name[step.loop.end])
        return bodies

    @cached_property
    def enclosing(self) -> tuple[tuple[int, ...], ...]:
        """For each step the loops over several steps whose body it is in, the outermost first."""
        enclosing: list[list[int]] = [[] for _ in self.steps]
        for loop in sorted(self.bodies, key=lambda loop: -self.bodies[loop].bit_count()):
            for index in bits_of(self.bodies[loop]):
                enclosing[index].append(loop)
        return tuple(map(tuple, enclosing))

    def _body(self, loop: int, end: int) -> int:
        seen, stack = 0, [self.index_by_name[target.step] for target in targets_of(self.steps[loop])]
        while stack:
            index = stack.pop()
            if index in (loop, end) or seen >> index & 1:
                continue
            seen |= 1 << index
            stack.extend(self._written_successors[index])
        return seen

    def _region(self, names: Iterable[str]) -> int:
        region = 0
        for name in names:
            for index in reachable_from(self._written_successors, self.index_by_name[name]):
                region |= 1 << index
        return region

    @cached_property
    def _written_successors(self) -> tuple[tuple[int, ...], ...]:
        """What the steps themselves lead to, without the playbook's `on_error`."""
        return tuple(tuple(sorted(self._own_targets(step))) for step in self.steps)

    def _own_targets(self, step: Step) -> set[int]:
        names = {target.step for target in (*targets_of(step), *step.error_targets)}
        if step.loop is not None and step.loop.end is not None:
            names.add(step.loop.end)
        return {self.index_by_name[name] for name in names}

    def _targets(self, step: Step) -> set[int]:
        targets = self._own_targets(step)
        index = self.index_by_name[step.name]
        beyond = self.handlers_region | self.finally_region | self.notices
        if not beyond >> index & 1 and not self.enclosing[index]:
            targets |= {self.index_by_name[target.step] for target in self.on_error}
        return targets


def targets_of(step: Step) -> list[Target]:
    """Where a step's `next` can lead, in the order it is written."""
    return [target for item in step.next for target in (*item.then, *item.otherwise)]
