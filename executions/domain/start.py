"""The beginning of an execution: its workload, from the playbook's own and the payload of the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from catalog.domain.graph import reachable_from
from catalog.domain.playbook import Playbook
from executions.domain.events import EXECUTION_START, NODE_EXECUTION, Event
from executions.domain.results import MISSING
from executions.domain.templating import render
from executions.domain.values import Unstorable, plain
from executions.errors import TemplateError, WorkloadInvalid


def build_workload(
    playbook: Playbook, payload: Any, env: Mapping[str, str], job_uuid: str, *, merge: bool
) -> dict[str, Any]:
    """The playbook's workload, rendered once, with the payload laid over it.

    `merge`: maps are merged to the bottom instead of replaced at the top. The payload is data and is never
    rendered. Raises: `WorkloadInvalid`.
    """
    if not isinstance(payload, Mapping):
        raise WorkloadInvalid("the payload must be a map of workload keys to values")
    names = {"env": env, "job": {"uuid": job_uuid}}
    replaced = set() if merge else set(payload)
    own = {key: value for key, value in playbook.workload.items() if key not in replaced}
    try:
        rendered = render(own, lambda name: names.get(name, MISSING))
    except TemplateError as error:
        raise WorkloadInvalid(f"the playbook's workload cannot be rendered: {error}") from None
    workload = deep_merge(rendered, payload) if merge else {**rendered, **payload}
    try:
        checked: dict[str, Any] = plain(workload)
    except Unstorable as error:
        raise WorkloadInvalid(f"the workload cannot be stored: {error}") from None
    return checked


def start_event(
    execution_id: str,
    playbook: Playbook,
    version: str,
    workload: Mapping[str, Any],
    reuse: Mapping[str, Any] | None = None,
) -> Event:
    """The first event of an execution. Raises: `WorkloadInvalid` for a `steps_override` that cannot be followed."""
    context: dict[str, Any] = {"path": playbook.path, "version": version, "workload": workload}
    if reuse is not None:
        context["reuse"] = reuse
    override = override_of(workload)
    if override is not None:
        unknown = [name for name, _ in override if name not in playbook.index_by_name]
        if unknown or not override:
            raise WorkloadInvalid(f"steps_override must name steps of the playbook; unknown: {unknown or 'none given'}")
        context["override"] = [{"step": name, "inputs": inputs} for name, inputs in override]
        context["taken"] = context["override"][:1]
    return Event(1, EXECUTION_START, execution_id, playbook.name, NODE_EXECUTION, status="running", context=context)


def override_of(workload: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]] | None:
    """`steps_override`: which steps run, in order, each with its inputs; None when it says nothing.

    Raises: `WorkloadInvalid`.
    """
    given = workload.get("steps_override")
    if given is None or given == {}:
        return None
    if isinstance(given, Mapping) and all(isinstance(inputs, Mapping | None) for inputs in given.values()):
        return [(name, dict(inputs or {})) for name, inputs in given.items()]
    if isinstance(given, list):
        return [_listed(item) for item in given]
    raise WorkloadInvalid(_OVERRIDE_WANTED)


_OVERRIDE_WANTED: Final = (
    "steps_override must be a list of step names (or of {step, with}), or a map of steps to their inputs"
)


def _listed(item: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(item, str):
        return item, {}
    if isinstance(item, Mapping) and isinstance(item.get("step"), str) and item.keys() <= {"step", "with"}:
        inputs = item.get("with")
        if isinstance(inputs, Mapping | None):
            return item["step"], dict(inputs or {})
    raise WorkloadInvalid(_OVERRIDE_WANTED)


def reuse_of(playbook: Playbook, execution_id: str, from_step: str | None) -> dict[str, Any]:
    """What a rerun may take over from an execution: all that was the same, but nothing from `from_step` on.

    Raises: `WorkloadInvalid` when the playbook has no such step.
    """
    if from_step is None:
        return {"of": execution_id, "fresh": []}
    if from_step not in playbook.index_by_name:
        raise WorkloadInvalid(f"there is no step {from_step!r} to run from")
    fresh = reachable_from(playbook.successors, playbook.index_by_name[from_step])
    return {"of": execution_id, "fresh": [playbook.steps[index].name for index in sorted(fresh)]}


def overlay_workload(workload: Mapping[str, Any], payload: Any, *, merge: bool) -> dict[str, Any]:
    """A workload of before with a payload laid over it: nothing is rendered again. Raises: `WorkloadInvalid`."""
    if not isinstance(payload, Mapping):
        raise WorkloadInvalid("the payload must be a map of workload keys to values")
    try:
        checked: dict[str, Any] = plain(deep_merge(workload, payload) if merge else {**workload, **payload})
    except Unstorable as error:
        raise WorkloadInvalid(f"the workload cannot be stored: {error}") from None
    return checked


def deep_merge(base: Any, over: Any) -> Any:
    """Maps merge key by key, lists are joined (lists of named maps by name), anything else is replaced."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        merged = dict(base)
        for key, value in over.items():
            merged[key] = deep_merge(base[key], value) if key in base else value
        return merged
    if isinstance(base, list) and isinstance(over, list):
        return _merge_lists(base, over)
    return over


def _merge_lists(base: list[Any], over: list[Any]) -> list[Any]:
    if not all(isinstance(item, Mapping) and "name" in item for item in (*base, *over)):
        return [*base, *over]
    merged = {item["name"]: item for item in base}
    for item in over:
        name = item["name"]
        merged[name] = deep_merge(merged[name], item) if name in merged else item
    return list(merged.values())
