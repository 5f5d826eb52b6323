"""The typed playbook: what every accepted spelling is normalised into, once, at registration.

Knows the shape of a playbook and nothing of YAML, positions, spellings, templates' values or storage.
A text anywhere in `workload`, `inputs`, `arguments`, `result` and the conditions may be a template;
`executions` renders it. Source of the rules: docs/language.md.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from catalog.domain.graph import ancestor_bitmaps

FORMAT = 1
"""Version of the normalised form; it rises when an old form can no longer be read as it is."""

MAX_VISITS = 10_000
"""What `max_visits` may be at most: one planning may go through all of them."""


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


class Loop(Part):
    """The action of a step, once per item of a collection."""

    items: Annotated[Any, Field(description="A list, or a template that gives one.")]
    element: Annotated[str, Field(description="Name of the variable that holds the item.")]
    filter: Annotated[str | None, Field(description="Condition per item; false leaves the item out.")] = None
    mode: Literal["parallel", "sequential"] = "parallel"
    concurrency: Annotated[int | None, Field(ge=1, description="Items in flight at most; none: no bound.")] = None
    on_error: Literal["fail", "continue"] = "fail"


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


class Step(Part):
    """One step: what it does, when it is skipped, and where it leads."""

    name: str
    description: str = ""
    action: Annotated[Action | None, Field(description="None: the step only routes.")] = None
    inputs: Annotated[dict[str, Any], Field(description="Inputs of the action (`with`), unrendered.")] = {}
    skip_if: Annotated[Any, Field(description="`pass`: true skips the action.")] = None
    run_if: Annotated[Any, Field(description="`when`: false skips the action; None: always runs.")] = None
    loop: Loop | None = None
    next: tuple[Transition, ...] = ()
    next_mode: Literal["inclusive", "exclusive"] = "inclusive"
    timeout_seconds: Annotated[float | None, Field(gt=0)] = None
    result: Annotated[Any, Field(description="`end` only: the execution's result, a template.")] = None
    start_reads: Annotated[tuple[str, ...], Field(description="Names its templates read when it starts, sorted.")] = ()
    next_reads: Annotated[tuple[str, ...], Field(description="Names its `next` reads, sorted.")] = ()


class Playbook(Part):
    """A whole playbook in its one internal form; steps in file order."""

    format: Literal[1] = 1
    name: str
    path: str
    description: str = ""
    workload: dict[str, Any] = {}
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    max_visits: Annotated[int, Field(ge=1, le=MAX_VISITS, description="Visits of one step at most.")] = 1000

    @cached_property
    def index_by_name(self) -> dict[str, int]:
        """Step name -> place in file order."""
        return {step.name: index for index, step in enumerate(self.steps)}

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """For each step the places of the steps that its `next` can lead to, sorted."""
        return tuple(tuple(sorted(self._targets(step))) for step in self.steps)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each step a bitmap: bit i is set when step i can reach it by at least one transition.

        Every branch leads to `end` at last, whether it says so or not.
        """
        bitmaps = list(ancestor_bitmaps(self.successors))
        if (end := self.index_by_name.get("end")) is not None:
            bitmaps[end] |= ((1 << len(self.steps)) - 1) & ~(1 << end)
        return tuple(bitmaps)

    def _targets(self, step: Step) -> set[int]:
        targets = (target.step for item in step.next for target in (*item.then, *item.otherwise))
        return {self.index_by_name[name] for name in targets}
