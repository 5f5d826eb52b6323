"""The beginning of an execution: its workload, from the playbook's own and the payload of the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.domain.playbook import Playbook
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
