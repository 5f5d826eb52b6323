"""The work a plan asks for: a step's action or child playbook, rendered once, for one place in the execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.domain.playbook import Action
from executions.domain.commands import StartChild
from executions.domain.frames import Scope
from executions.domain.sight import Sight, Spot, job_uuid
from executions.domain.sqltext import render_sql
from executions.domain.templating import Lookup
from executions.errors import TemplateError


@dataclass(frozen=True, slots=True)
class EnqueueJob:
    """Ask for one job. `action` is rendered: `{kind, arguments, inputs}`; `context` is told to workers.

    `index` is the item's place when the job is one item of a loop.
    """

    node_id: str
    step: str
    index: int | None
    kind: str
    action: dict[str, Any]
    context: dict[str, Any]
    uuid: str
    timeout_seconds: float | None


class NoChildPath(TemplateError):
    """The path or the version of a child playbook is no text."""

    code = "child_path_invalid"


def render_work(
    sight: Sight,
    spot: Spot,
    scope: Scope,
    handed: Mapping[str, Any],
    item: int | None = None,
    *,
    upcoming: bool = False,
) -> EnqueueJob | StartChild:
    """Render the action or the child of the step at `spot`, or of one item of its loop.

    `handed` are transition inputs by name. `upcoming`: the step's next visit is meant, it has not started yet.
    Raises: `TemplateError`, `MissingFacts`.
    """
    node_id = sight.node_id(spot, item, upcoming=upcoming)
    variables = {} if item is None else sight.item_variables(spot, item)
    inputs = sight.inputs(spot, scope, handed, variables)
    job = {"uuid": job_uuid(node_id), "execution_id": sight.facts.execution_id, "node_id": node_id}
    lookup = sight.lookup(spot, scope, {"job": job, **handed, **inputs, "input": inputs, **variables})
    if sight.step(spot).child is not None:
        return _child(sight, spot, node_id, item, inputs, variables, lookup)
    action = sight.step(spot).action
    assert action is not None
    context = {"inputs": inputs, **({"_loop": variables["_loop"]} if "_loop" in variables else {})}
    return _job(sight, spot, action, node_id, item, inputs, context, lookup)


def render_undo(sight: Sight, spot: Spot, node_id: str, undo_node_id: str) -> EnqueueJob:
    """Render the action that undoes what was done at a node: it sees what the step's `next` saw.

    Raises: `TemplateError`, `MissingFacts`.
    """
    step = sight.step(spot)
    assert step.undo is not None
    job = {"uuid": job_uuid(undo_node_id), "execution_id": sight.facts.execution_id, "node_id": undo_node_id}
    inputs = sight.render(step.undo_inputs, sight.lookup(spot, {}, {"job": job}, ended=True))
    lookup = sight.lookup(spot, {}, {"job": job, **inputs, "input": inputs}, ended=True)
    return _job(sight, spot, step.undo, undo_node_id, None, inputs, {"inputs": inputs, "undoes": node_id}, lookup)


def _job(
    sight: Sight,
    spot: Spot,
    action: Action,
    node_id: str,
    index: int | None,
    inputs: dict[str, Any],
    context: dict[str, Any],
    lookup: Lookup,
) -> EnqueueJob:
    arguments = {}
    for key, value in action.arguments.items():
        if key in action.verbatim:
            arguments[key] = value
        elif key in action.sql:
            arguments[key] = render_sql(value, lookup)
        else:
            arguments[key] = sight.render(value, lookup)
    step = sight.step(spot)
    return EnqueueJob(
        node_id=node_id,
        step=step.name,
        index=index,
        kind=action.kind,
        action={"kind": action.kind, "arguments": arguments, "inputs": inputs},
        context=context,
        uuid=job_uuid(node_id),
        timeout_seconds=step.timeout_seconds,
    )


def _child(
    sight: Sight,
    spot: Spot,
    node_id: str,
    index: int | None,
    inputs: dict[str, Any],
    variables: Mapping[str, Any],
    lookup: Lookup,
) -> StartChild:
    step = sight.step(spot)
    child, loop = step.child, step.loop
    assert child is not None
    rendered = {"path": sight.render(child.path, lookup), "version": sight.render(child.version, lookup)}
    path, version = rendered["path"], rendered["version"]
    if not isinstance(path, str) or not path.strip() or not (version is None or isinstance(version, str)):
        raise NoChildPath(child.path, f"the path and the version of a child must be texts, and are {rendered}")
    # The catalog's own paths are no data of the item.
    element = {} if loop is None or loop.items_under is not None else {loop.element: variables[loop.element]}
    return StartChild(
        node_id=node_id,
        step=step.name,
        index=index,
        path=path.strip(),
        version=version,
        payload={**element, **inputs},
        answer=child.answer,
    )
