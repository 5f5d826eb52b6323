"""The work a plan asks for: a step's action or child playbook, rendered once, for one place in the execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from catalog.domain.playbook import Action, Save
from catalog.domain.template_syntax import SECRET
from executions.domain.commands import StartChild
from executions.domain.frames import Scope
from executions.domain.secrets import References, add_step_secrets, places_of_secrets, reference_in, step_marks
from executions.domain.sight import Sight, Spot, job_uuid
from executions.domain.sqltext import render_sql
from executions.domain.templating import Lookup
from executions.errors import TemplateError

MAX_LIMIT_KEY: Final = 200

_REFERENCES: Final = References()


@dataclass(frozen=True, slots=True)
class EnqueueJob:
    """Ask for one job. `action` is rendered: `{kind, arguments, inputs}`; `context` is told to workers.
    Where it holds marks of secrets, `action` has `secrets`, too: JSON pointer -> their names; and of those that steps
    fetched `secret_sources`: name -> what the step was asked for.

    `index` is the item's place when the job is one item of a loop. `pool` and `priority` are the step's own;
    `limit_key` is rendered, of at most `limit_max` jobs with this key at once.
    """

    node_id: str
    step: str
    index: int | None
    kind: str
    action: dict[str, Any]
    context: dict[str, Any]
    uuid: str
    timeout_seconds: float | None
    pool: str | None = None
    priority: int | None = None
    limit_key: str | None = None
    limit_max: int | None = None


class LimitKeyInvalid(TemplateError):
    """The key of a limit is neither a text nor a whole number, or is empty or too long."""

    code = "limit_key_invalid"


class SecretInSql(TemplateError):
    """A secret stands in SQL, where it would be sent as text, or in code."""

    code = "secret_in_sql"


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
    # A child's payload is data to it, so no mark would ever be resolved there: it sees no secrets.
    secrets = {} if sight.step(spot).action is None else {SECRET: _REFERENCES}
    inputs = sight.inputs(spot, scope, handed, {**variables, **secrets})
    job = {"uuid": job_uuid(node_id), "execution_id": sight.facts.execution_id, "node_id": node_id}
    lookup = sight.lookup(spot, scope, {"job": job, **handed, **inputs, "input": inputs, **variables})
    if sight.step(spot).child is not None:
        return _child(sight, spot, node_id, item, inputs, variables, lookup)
    action = sight.step(spot).action
    assert action is not None
    context = {"inputs": inputs, **({"_loop": variables["_loop"]} if "_loop" in variables else {})}
    work = _Work(action, sight.step(spot).inputs, inputs, context, lookup)
    return replace(_job(sight, spot, work, node_id, item), **_limit(sight, spot, lookup))


def _limit(sight: Sight, spot: Spot, lookup: Lookup) -> dict[str, Any]:
    """The step's limit as fields of its job."""
    limit = sight.step(spot).limit
    if limit is None:
        return {}
    key = sight.render(limit.key, lookup)
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not 0 < len(key) <= MAX_LIMIT_KEY:
        message = f"the key of a limit must be a text of 1 to {MAX_LIMIT_KEY} characters, and is {key!r:.60}"
        raise LimitKeyInvalid(limit.key, message)
    return {"limit_key": key, "limit_max": limit.max}


def render_undo(sight: Sight, spot: Spot, node_id: str, undo_node_id: str) -> EnqueueJob:
    """Render the action that undoes what was done at a node: it sees what the step's `next` saw.

    Raises: `TemplateError`, `MissingFacts`.
    """
    step = sight.step(spot)
    assert step.undo is not None
    job = {"uuid": job_uuid(undo_node_id), "execution_id": sight.facts.execution_id, "node_id": undo_node_id}
    seen = sight.lookup(spot, {}, {"job": job, SECRET: _REFERENCES}, ended=True)
    inputs = sight.render(step.undo_inputs, seen)
    lookup = sight.lookup(spot, {}, {"job": job, **inputs, "input": inputs}, ended=True)
    work = _Work(step.undo, step.undo_inputs, inputs, {"inputs": inputs, "undoes": node_id}, lookup)
    return _job(sight, spot, work, undo_node_id, None)


def render_save(
    sight: Sight, spot: Spot, save: Save, node_id: str, lookup: Lookup, rendered: Mapping[str, Any] | None = None
) -> EnqueueJob:
    """Render what saves a result. `rendered` are arguments that are values already: what many items gave.

    Raises: `TemplateError`, `MissingFacts`.
    """
    given = dict(rendered or {})
    changes = {"arguments": {**save.action.arguments, **given}, "verbatim": (*save.action.verbatim, *given)}
    work = _Work(save.action.model_copy(update=changes), {}, {}, {"inputs": {}}, lookup)
    seconds = save.timeout_seconds or sight.step(spot).timeout_seconds
    return replace(_job(sight, spot, work, node_id, None), timeout_seconds=seconds)


@dataclass(frozen=True, slots=True)
class _Work:
    """An action with its inputs as the playbook has them and as they were rendered."""

    action: Action
    own_inputs: dict[str, Any]
    inputs: dict[str, Any]
    context: dict[str, Any]
    lookup: Lookup

    def with_secrets(self, name: str) -> Any:
        """What templates see; SQL sees no secrets: its `params` do."""
        return _REFERENCES if name == SECRET else self.lookup(name)


def _job(sight: Sight, spot: Spot, work: _Work, node_id: str, index: int | None) -> EnqueueJob:
    action, arguments = work.action, dict[str, Any]()
    for key, value in action.arguments.items():
        if key in action.verbatim:
            arguments[key] = value
        elif key in action.sql:
            arguments[key] = render_sql(value, work.lookup)
        else:
            arguments[key] = sight.render(value, work.with_secrets)
    step = sight.step(spot)
    rendered = {"kind": action.kind, "arguments": arguments, "inputs": work.inputs}
    plain = (*action.verbatim, *action.sql)
    if places := places_of_secrets(action.arguments, work.own_inputs, plain, sight.facts.env):
        rendered["secrets"] = places
    if sight.playbook.secret_steps:
        _add_step_secrets(sight, spot, rendered, plain)
    return EnqueueJob(
        node_id=node_id,
        step=step.name,
        index=index,
        kind=action.kind,
        action=rendered,
        context=work.context,
        uuid=job_uuid(node_id),
        timeout_seconds=step.timeout_seconds,
        pool=step.pool,
        priority=step.priority,
    )


def _add_step_secrets(sight: Sight, spot: Spot, rendered: dict[str, Any], plain: Sequence[str]) -> None:
    """Raises: `SecretInSql`, `MissingFacts`."""

    def find(step: str, name: str) -> Mapping[str, Any] | None:
        return reference_in(sight.secret_of(step, spot), name)

    for key in set(plain) & rendered["arguments"].keys():
        for _, name, step in step_marks(rendered["arguments"][key], ""):
            if find(step, name) is not None:
                raise SecretInSql(key, f"`{key}` holds the secret of the step {step}: bind it with `params`")
    add_step_secrets(rendered, plain, find)


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
        priority=step.priority,
    )
