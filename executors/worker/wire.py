"""A job as it travels to a worker elsewhere: the task's configuration in the form of the original's queue.

The action is one map: `type`, `with` (the inputs) and the kind's arguments beside them; the text of code and SQL is in
base64, under a name that ends in `_b64`, so that nothing on its way takes it for a template. Source: docs/api.md.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from queueing.api import LeasedJob

ENCODED: Final = ("code", "command", "commands")
TYPE: Final = "type"
INPUTS: Final = "with"
OF_SECRETS: Final = ("secrets", "secret_sources")
"""Where marks of secrets stand, and what steps fetched them with: the planner's word, never read from a client."""
MAX_KIND_CHARS: Final = 100
TYPE_SPELLINGS: Final = (TYPE, "action", "kind")


class ActionUnreadable(ValueError):
    """A task's configuration that names no action kind, or cannot be decoded."""


def tell_action(action: Mapping[str, Any]) -> dict[str, Any]:
    """A stored action `{kind, arguments, inputs}` as the task configuration that travels."""
    told: dict[str, Any] = {TYPE: action["kind"], INPUTS: action.get("inputs", {})}
    for name, value in action.get("arguments", {}).items():
        if name in ENCODED and isinstance(value, str):
            told[f"{name}_b64"] = base64.b64encode(value.encode()).decode()
        else:
            told[name] = value
    return told | {name: action[name] for name in OF_SECRETS if action.get(name)}


def read_action(told: Any) -> dict[str, Any]:
    """The stored action of a task configuration, given as a map or as JSON text of one. Raises: `ActionUnreadable`."""
    config = _as_map(told)
    named = [config.pop(name) for name in TYPE_SPELLINGS if name in config]
    kind = named[0].strip().lower() if named and isinstance(named[0], str) else ""
    if not 0 < len(kind) <= MAX_KIND_CHARS:
        raise ActionUnreadable(f"the action names no type, of 1 to {MAX_KIND_CHARS} characters")
    for name in OF_SECRETS:
        config.pop(name, None)
    inputs = config.pop(INPUTS, None)
    inputs = {} if inputs is None else inputs
    if not isinstance(inputs, Mapping):
        raise ActionUnreadable("`with` must be a map of inputs")
    return {
        "kind": kind,
        "arguments": dict(_decoded(name, value) for name, value in config.items()),
        "inputs": dict(inputs),
    }


def without_secrets(action: Mapping[str, Any]) -> dict[str, Any]:
    """A stored action as a client can tell it."""
    return {name: value for name, value in action.items() if name not in OF_SECRETS}


def _as_map(told: Any) -> dict[str, Any]:
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except (ValueError, RecursionError):
            raise ActionUnreadable("the action is no JSON") from None
    if not isinstance(told, Mapping):
        raise ActionUnreadable("the action must be a map, or JSON text of one")
    return dict(told)


def _decoded(name: str, value: Any) -> tuple[str, Any]:
    plain = name.removesuffix("_b64").removesuffix("_base64")
    if plain == name or plain not in ENCODED:
        return name, value
    try:
        return plain, base64.b64decode(str(value), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ActionUnreadable(f"{name} is no base64 of UTF-8 text") from None


def read_job(told: Mapping[str, Any]) -> LeasedJob:
    """The leased job of a lease's reply. Raises: `ActionUnreadable`."""
    config = _as_map(told["action"])
    action = read_action(config) | {name: config[name] for name in OF_SECRETS if config.get(name)}
    return LeasedJob(
        id=int(told["id"]),
        execution_id=int(told["execution_id"]),
        node_id=told["node_id"],
        node_name=told["node_name"],
        kind=told["kind"],
        action=action,
        context=told["context"],
        uuid=told["uuid"],
        item_index=told["item_index"],
        timeout_seconds=told["timeout_seconds"],
        pool=told["pool"],
        priority=told["priority"],
        attempt=told["attempts"],
        lease_token=told["lease_token"],
        leased_at=datetime.fromisoformat(told["last_heartbeat"]),
        lease_until=datetime.fromisoformat(told["lease_until"]),
    )
