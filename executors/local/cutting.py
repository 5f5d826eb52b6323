"""One step cut out of a playbook, to run it alone: what ran before it is played back, and nothing follows.

Knows the shape of a playbook. Every rule (inputs, conditions, loops, results) stays the planner's: to it, this is a
playbook like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final

from catalog.api import Action, Playbook, Step, Target, Transition
from executors import contract
from executors.contract import ActionContext, ActionFailed, ActionRequest

ENTRY: Final = "(before)"
PLAYED_BACK: Final = "played_back"


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a step ended: `status` is success, error or skipped."""

    status: str
    data: Any = None
    error: Any = None


class PlayedBackArguments(contract.Arguments):
    """What the step gave before."""

    data: Any = None
    error: Any = None


class PlayBack(contract.ActionKind):
    """The action of a step that ran before: it gives again what it gave."""

    name: ClassVar[str] = PLAYED_BACK
    Arguments: ClassVar[type[contract.Arguments]] = PlayedBackArguments

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """The recorded data. Raises: `ActionFailed` with the recorded error."""
        given = PlayedBackArguments.check(request.arguments)
        if given.error is None:
            return given.data
        error = given.error if isinstance(given.error, dict) else {"message": str(given.error)}
        raise ActionFailed(error.get("code", "action_failed"), error.get("message", ""), data=given.data)


def cut_out(playbook: Playbook, name: str, before: Mapping[str, StepEnd], inputs: Mapping[str, Any]) -> Playbook:
    """The step called `name` alone, with the body of its loop; `inputs` are handed to it, as templates."""
    step = playbook.steps[playbook.index_by_name[name]]
    body: list[Step] = []
    alone: dict[str, Any] = {"error_targets": (), "on_error": "fail", "undo": None}
    if step.loop is not None and step.loop.end is not None:
        region = playbook.bodies[playbook.index_by_name[name]]
        body = [inner for index, inner in enumerate(playbook.steps) if region >> index & 1]
        body.append(Step(name=step.loop.end, end_loop=name))
    else:
        alone["next"] = ()
    played = [_played_back(step, end) for step, end in _of_steps(playbook, before) if step.name != name]
    entry = Step(name=ENTRY, next=(_to(name, inputs),))
    chain = _chained(played, entry)
    return _with_steps(playbook, [*chain, step.model_copy(update=alone), *body])


def cut_next(playbook: Playbook, name: str, before: Mapping[str, StepEnd]) -> Playbook:
    """The step called `name` played back, and where it leads, where nothing happens."""
    step = playbook.steps[playbook.index_by_name[name]]
    ways = {name: getattr(step, name) for name in ("next", "next_mode", "on_error", "error_targets")}
    own = _played_back(step, before.get(name, StepEnd("success"))).model_copy(update=ways)
    written = [target for item in step.next for target in (*item.then, *item.otherwise)]
    targets = dict.fromkeys(target.step for target in (*written, *step.error_targets))
    played = [_played_back(step, end) for step, end in _of_steps(playbook, before) if step.name not in {name, *targets}]
    return _with_steps(playbook, [*_chained(played, own), *(Step(name=target) for target in targets if target != name)])


def _of_steps(playbook: Playbook, ends: Mapping[str, StepEnd]) -> Iterable[tuple[Step, StepEnd]]:
    return ((playbook.steps[playbook.index_by_name[name]], end) for name, end in ends.items())


def _played_back(step: Step, end: StepEnd) -> Step:
    given = {"data": end.data, "error": end.error}
    return Step(
        name=step.name,
        action=Action(kind=PLAYED_BACK, arguments=given, verbatim=("data", "error")),
        run_if=False if end.status == "skipped" else None,
        on_error="continue",
    )


def _chained(played: list[Step], last: Step) -> list[Step]:
    """The steps one after the other: each sees the results of all before it."""
    steps = [*played, last]
    return [*(step.model_copy(update={"next": (_to(after.name),)}) for step, after in pairwise(steps)), last]


def _to(name: str, inputs: Mapping[str, Any] | None = None) -> Transition:
    return Transition(kind="always", then=(Target(step=name, inputs=dict(inputs or {})),))


def _with_steps(playbook: Playbook, steps: list[Step]) -> Playbook:
    gone = {"on_error": (), "finally_steps": (), "timeout_seconds": None}
    # A new value, not a copy: what is computed from the steps is kept on it.
    fields = {name: getattr(playbook, name) for name in Playbook.model_fields}
    return Playbook(**{**fields, **gone, "steps": tuple(steps)})
