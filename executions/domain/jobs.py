"""The jobs a plan asks for: a step's action, rendered once, for one place in the execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.domain.playbook import Step
from executions.domain.sight import Sight, job_uuid
from executions.domain.sqltext import render_sql
from executions.domain.state import Scope
from executions.domain.templating import render


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


def render_job(
    sight: Sight,
    step: Step,
    scope: Scope,
    node_id: str,
    handed: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    index: int | None = None,
) -> EnqueueJob:
    """Render the step's action for one job.

    `handed` are transition inputs by name, `variables` a loop's element and `_loop`.
    Raises: `TemplateError`, `MissingFacts`.
    """
    action = step.action
    assert action is not None
    variables = variables or {}
    identity = job_uuid(node_id)
    inputs = sight.inputs(step, scope, handed, variables)
    job = {"uuid": identity, "execution_id": sight.facts.execution_id, "node_id": node_id}
    lookup = sight.lookup(step, scope, {"job": job, **handed, **inputs, **variables})
    arguments = {}
    for key, value in action.arguments.items():
        if key in action.verbatim:
            arguments[key] = value
        elif key in action.sql:
            arguments[key] = render_sql(value, lookup)
        else:
            arguments[key] = render(value, lookup)
    context: dict[str, Any] = {"inputs": inputs}
    if "_loop" in variables:
        context["_loop"] = variables["_loop"]
    return EnqueueJob(
        node_id=node_id,
        step=step.name,
        index=index,
        kind=action.kind,
        action={"kind": action.kind, "arguments": arguments, "inputs": inputs},
        context=context,
        uuid=identity,
        timeout_seconds=step.timeout_seconds,
    )
