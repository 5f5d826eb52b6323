"""What follows a step that is over: its `next`, the handling of its failure, or its frame's failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Step, Target, Transition
from executions.domain import events as ev
from executions.domain.conditions import Verdict, evaluate, mentions_failure
from executions.domain.planning import Planning, problem_of
from executions.domain.sight import Spot
from executions.domain.state import ROOT
from executions.domain.templating import Lookup
from executions.domain.unwinding import fail_frame
from executions.errors import TemplateError


def leave(planning: Planning, spot: Spot) -> None:
    """Evaluate where a step that has ended leads; a failure that nothing handles fails its frame."""
    entering = _enters_body(planning, spot)
    frame = planning.state.frame(spot.key)
    step, scope = planning.step(spot), frame.ended[spot.index]
    failed = not entering and frame.step_status(spot.index) == "error"
    lookup = planning.sight.lookup(spot, scope, {}, ended=not entering)
    choice = _route(planning, spot, step, lookup, entering=entering, failed=failed)
    if choice is None:
        _fail(planning, spot, step)
        return
    try:
        taken = [{"step": target.step, "inputs": choice.inputs_of(planning, target)} for target in choice.taken]
    except TemplateError as error:
        fail_frame(planning, spot.key, problem_of(error), step.name, _node_id(planning, spot, entering=entering))
        return
    _emit_choice(planning, spot, choice, _merge_targets(taken), entering=entering)


def _enters_body(planning: Planning, spot: Spot) -> bool:
    """Whether this is the beginning of an item: its loop's own `next` leads into the body."""
    return bool(spot.key) and spot.key[-2] == spot.index


def _node_id(planning: Planning, spot: Spot, *, entering: bool) -> str:
    if entering:
        return planning.sight.node_id(Spot(spot.key[:-2], spot.index), spot.key[-1])
    return planning.sight.node_id(spot)


def _fail(planning: Planning, spot: Spot, step: Step) -> None:
    node_id = planning.sight.node_id(spot)
    error = dict(planning.sight.stored(spot).error or {})
    if planning.state.phase == "finally" and spot.key == ROOT:
        # The other steps of `finally` go on; the first failure of all is the execution's.
        cause = {"step": step.name, "node_id": node_id, **error}
        context = {"items": [], "taken": [], "failed": cause}
        planning.emit(ev.TRANSITION_EVALUATED, node_id, step.name, ev.NODE_TRANSITION, status="error", context=context)
        return
    fail_frame(planning, spot.key, error, step.name, node_id)


def _emit_choice(
    planning: Planning, spot: Spot, choice: _Choice, taken: list[dict[str, Any]], *, entering: bool
) -> None:
    node_id, step = _node_id(planning, spot, entering=entering), planning.step(spot)
    for verdict in choice.verdicts:
        if verdict.warning:
            planning.warn(node_id, step.name, verdict)
    status = None if entering else planning.state.frame(spot.key).step_status(spot.index)
    where = {"loop_name": step.name, "index": spot.key[-1]} if entering else {}
    event = planning.emit(
        ev.TRANSITION_EVALUATED,
        node_id,
        step.name,
        ev.NODE_TRANSITION,
        status=status or "",
        context={"items": choice.explained, "taken": taken, **choice.marks},
        **where,
    )
    planning.facts.transitions[event.seq] = {item["step"]: item["inputs"] for item in taken}


# -- choosing ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Choice:
    """The targets that a step leads to, and why."""

    lookup: Lookup
    taken: list[Target] = field(default_factory=list)
    explained: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    marks: dict[str, Any] = field(default_factory=dict)

    def take(self, item: Transition, targets: tuple[Target, ...], verdict: Verdict | None) -> None:
        told: dict[str, Any] = {"kind": item.kind, "taken": [target.step for target in targets]}
        if verdict is not None:
            told.update(verdict.explain())
            self.verdicts.append(verdict)
        elif item.when is not None:
            told["expression"] = item.when
        self.taken.extend(targets)
        self.explained.append(told)

    def inputs_of(self, planning: Planning, target: Target) -> dict[str, Any]:
        """What a target is handed. Raises: `TemplateError`."""
        inputs = target.inputs if self.marks.get("override") else planning.sight.render(target.inputs, self.lookup)
        return dict(inputs)

    def take_all(self, kind: str, targets: tuple[Target, ...]) -> _Choice:
        self.taken.extend(targets)
        self.explained.append({"kind": kind, "taken": [target.step for target in targets]})
        return self


def _route(
    planning: Planning, spot: Spot, step: Step, lookup: Lookup, *, entering: bool, failed: bool
) -> _Choice | None:
    """Where the step leads; None when it failed and nothing handles that."""
    playbook = planning.playbook
    is_of_workflow = spot.key == ROOT and not planning.state.phase and step.notice is None
    listed = planning.state.override if is_of_workflow else None
    if listed is not None:
        return None if failed else _next_listed(planning, lookup, listed)
    if step.loop is not None and step.loop.end is not None and not entering:
        end = (Target(step=step.loop.end),)
        if not failed or step.on_error == "continue":
            return _Choice(lookup).take_all("loop_end", end)
    elif not failed:
        return _choose(step, lookup)
    elif any(item.when is not None and mentions_failure(item.when, step.name) for item in step.next):
        choice = _choose(step, lookup)
        if choice.taken:
            return choice
    elif step.on_error == "continue":
        return _choose(step, lookup)
    if step.on_error == "continue":
        return _Choice(lookup)
    if step.on_error == "route":
        return _Choice(lookup).take_all("on_error", step.error_targets)
    handled_already = (playbook.handlers_region | playbook.finally_region) >> spot.index & 1
    if playbook.on_error and spot.key == ROOT and not handled_already:
        return _Choice(lookup).take_all("on_error", playbook.on_error)
    return None


def _next_listed(planning: Planning, lookup: Lookup, listed: list[dict[str, Any]]) -> _Choice:
    """The step after this one in `steps_override`."""
    place = planning.state.position + 1
    # The inputs come from the workload: they are data, and no templates.
    targets = tuple(Target(step=item["step"], inputs=item["inputs"]) for item in listed[place : place + 1])
    return _Choice(lookup, marks={"override": True}).take_all("override", targets)


def _choose(step: Step, lookup: Lookup) -> _Choice:
    """Which targets fire: every true condition, then the defaults when none was true."""
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


def _merge_targets(taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each target once, in the order of its first mention; of equal input names the later one wins."""
    merged: dict[str, dict[str, Any]] = {}
    for item in taken:
        merged.setdefault(item["step"], {}).update(item["inputs"])
    return [{"step": step, "inputs": inputs} for step, inputs in merged.items()]
