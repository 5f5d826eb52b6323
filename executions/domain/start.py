"""The beginning of an execution: its workload, from the playbook's own and the payload of the start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from catalog.domain.playbook import Playbook
from executions.domain.results import MISSING
from executions.domain.templating import render
from executions.errors import TemplateError, WorkloadInvalid

MAX_DEPTH: Final = 100


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
    check_storable(workload)
    return workload


def check_storable(value: Any, depth: int = 0) -> None:
    """Refuse what no JSON column can hold: NUL, lone surrogates, infinities, depths past 100.

    Raises: `WorkloadInvalid`.
    """
    if depth > MAX_DEPTH:
        raise WorkloadInvalid(f"the workload is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise WorkloadInvalid("a text of the workload holds NUL or half of a surrogate pair")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise WorkloadInvalid(f"the workload has the key {key!r}, which is no text")
            check_storable(key, depth + 1)
            check_storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_storable(item, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise WorkloadInvalid("a number of the workload is not finite")
    elif not (value is None or isinstance(value, bool | int)):
        raise WorkloadInvalid(f"the workload holds a {type(value).__name__}, which JSON cannot")


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
