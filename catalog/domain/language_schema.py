"""The JSON Schema of playbooks as they are written, for editors: completion and first checks.

It accepts what `normalise` accepts, and is looser: reachability, names and templates are judged there only.
"""

from __future__ import annotations

from typing import Any, Final

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.notices import OCCASIONS
from catalog.domain.playbook import MAX_PRIORITY, POOL_PATTERN
from catalog.domain.spelling import (
    CHILD_ANSWER,
    CHILD_PATH,
    CODE,
    CREDENTIAL,
    ELEMENT,
    FILTER,
    GENERIC_AUTH,
    IDENTITY,
    INPUTS,
    ITEMS,
    ITERATOR,
    KIND,
    LANGUAGE_KINDS,
    PLAYBOOK,
    SAVE,
    STEP_CONTROL,
    TRANSFORM,
    TRANSFORM_KEYS,
)
from catalog.domain.waits import FORM_TYPES


def _words(*words: str) -> dict[str, Any]:
    """One of the words, in any case."""
    anyhow = "|".join("".join(f"[{char.upper()}{char}]" for char in word) for word in words)
    return {"anyOf": [{"enum": list(words)}, {"type": "string", "pattern": f"^({anyhow})$"}]}


_TEMPLATE: Final = {"type": "string", "pattern": r"\{\{|\{%"}
_TEXT: Final = {"type": "string"}
_MAP: Final = {"type": "object"}
_CONDITION: Final = {"type": ["string", "boolean", "number"]}
_DURATION: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([mM]?[sS]|[mMhHdD])?\s*$"},
    ],
    "description": "Seconds, or a text as 90s, 5m, 2h.",
}
_BRANCH: Final = {"anyOf": [{"$ref": "#/$defs/target"}, {"type": "array", "items": {"$ref": "#/$defs/target"}}]}
_COUNT: Final = {"type": "integer", "minimum": 1}
_NAMES: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_ON_ERROR: Final = {**_BRANCH, "description": "fail, continue, or where a failure leads."}
_CREDENTIAL: Final = {
    "type": ["string", "object"],
    "description": "The name of a stored credential, or what leads to one or several.",
}
_DELAY: Final = {"anyOf": [_DURATION, {"const": 0}]}
_RETRY: Final = {
    "anyOf": [
        {"type": "boolean"},
        _COUNT,
        {
            "type": "object",
            "properties": {
                "max_attempts": _COUNT,
                "initial_delay": _DELAY,
                "backoff_multiplier": {"type": "number", "minimum": 1},
                "max_delay": _DELAY,
                "jitter": {"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": 0, "maximum": 1}]},
                "retry_when": _CONDITION,
                "stop_when": _CONDITION,
            },
            "additionalProperties": False,
        },
    ],
    "description": "Tries in all (true: 3), or when a failed action is tried again.",
}
_SAVE: Final = {
    "type": "object",
    "properties": {
        "storage": {**_TEXT, "description": "Where it is written; event_log without it."},
        **dict.fromkeys(CREDENTIAL, _CREDENTIAL),
        "use_auth": _TEXT,
        "spec": {"type": ["object", "string"], "description": "What the storage wants to know beside it."},
        "table": _TEXT,
        "mode": _words("append", "overwrite", "update", "upsert"),
        "key": _NAMES,
        "data": {"description": "A map, a list or a template; the result without it."},
        "statement": {**_TEXT, "description": "SQL with :NAME."},
        "params": {"type": ["object", "array", "string"]},
        "code": {**_TEXT, "description": "Python that defines main(data, rows)."},
        "format": _words("csv", "json", "jsonl", "parquet"),
        "batch": {"type": "boolean", "description": "false: one at a time."},
        "chunk_size": _COUNT,
        "concurrency": _COUNT,
        "when": _CONDITION,
        "on": _words("success", "error", "always"),
        "on_error": _words("continue", "fail"),
        "retry": _RETRY,
        "timeout": _DURATION,
    },
    "additionalProperties": False,
    "description": "What is written somewhere when the work has ended.",
}
_PRIORITY: Final = {
    "type": "integer",
    "minimum": -MAX_PRIORITY,
    "maximum": MAX_PRIORITY,
    "description": "Higher runs first.",
}
_POOL: Final = {"type": "string", "pattern": f"^{POOL_PATTERN}$", "description": "The worker pool that runs it."}
_LIMIT: Final = {
    "type": "object",
    "required": ["key", "max"],
    "properties": {"key": {**_TEXT, "minLength": 1}, "max": _COUNT},
    "additionalProperties": False,
    "description": "At most `max` jobs with this key run at once, over all executions.",
}
_LOOP_KEYS: Final[dict[str, Any]] = {
    **{key: {"type": ["string", "array"], "description": "A list, or a template that gives one."} for key in ITEMS},
    **{key: {**_TEXT, "description": "Name of the item in templates."} for key in ELEMENT},
    **{key: {"type": ["string", "boolean", "number", "null"]} for key in FILTER},
    "mode": _words("parallel", "async", "sequential"),
    "concurrency": _COUNT,
    "order_by": {**_TEMPLATE, "description": "Gives an item's sort key."},
    "limit": {"anyOf": [_COUNT, _TEMPLATE]},
    "chunk": {**_COUNT, "description": "So many items are one, as a list."},
    "enumerate": {"type": "boolean"},
    "distribution": {"type": "boolean"},
}
_LOOP: Final = {
    "type": "object",
    "properties": {**_LOOP_KEYS, "on_error": _words("fail", "continue"), "save": _SAVE},
    "additionalProperties": False,
}
_FIELD: Final = {
    "type": ["object", "null"],
    "properties": {
        "type": {"enum": sorted(FORM_TYPES)},
        "label": _TEXT,
        "required": {"type": "boolean"},
        "default": {},
    },
    "additionalProperties": False,
}


def build_language_schema(schemas: ActionSchemas) -> dict[str, Any]:
    """The schema, with the arguments of the given action kinds."""
    schema: dict[str, Any] = _with_nulls(_language(schemas))
    return schema


def _with_nulls(schema: Any) -> Any:
    """The schema in which any key may also be null: as good as not given."""
    if isinstance(schema, list):
        return [_with_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    widened = {key: item if key in ("if", "enum") else _with_nulls(item) for key, item in schema.items()}
    if isinstance(properties := schema.get("properties"), dict):
        widened["properties"] = {
            key: {"anyOf": [_with_nulls(item), {"type": "null"}]} for key, item in properties.items()
        }
    return widened


def _notify(schemas: ActionSchemas) -> dict[str, Any]:
    words = _words(*OCCASIONS)
    own = schemas["notify"].schema.get("properties", {}) if "notify" in schemas else {}
    return {
        "type": "object",
        "description": "Whom to tell of a failure, of lateness, of any end.",
        "properties": {
            **{name: {"anyOf": [_without_references(it), _TEMPLATE]} for name, it in own.items()},
            "on": {"anyOf": [words, {"type": "array", "items": words, "minItems": 1}]},
            "late_after": _DURATION,
            "retry": _RETRY,
            "timeout": _DURATION,
            "priority": _PRIORITY,
            "pool": _POOL,
        },
    }


def _language(schemas: ActionSchemas) -> dict[str, Any]:
    notify = _notify(schemas)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "NoETL playbook",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "anyOf": [{"required": [key]} for key in ("workflow", "steps", "tasks")],
        "properties": {
            "apiVersion": {"type": "string", "pattern": "^noetl\\.io/"},
            "kind": {"type": "string", "pattern": "^[Pp][Ll][Aa][Yy][Bb][Oo][Oo][Kk]$"},
            **dict.fromkeys(("name", "path", "description"), _TEXT),
            "metadata": _MAP,
            "workload": {
                "type": "object",
                "description": "Default input data of an execution.",
                "properties": {"steps_override": {"type": ["array", "object", "string", "null"]}},
            },
            **{key: {"$ref": "#/$defs/steps"} for key in ("workflow", "steps")},
            "workbook": {"type": "array", "items": {"$ref": "#/$defs/task"}},
            "max_visits": {"type": "integer", "minimum": 1},
            "timeout": _DURATION,
            "on_error": {**_BRANCH, "description": "Where a failure leads that its step does not handle."},
            "finally": {**_NAMES, "description": "Steps that run before the end, however it comes."},
            "notify": {"anyOf": [notify, {"type": "array", "items": notify}]},
            "coerce": _words("native", "legacy"),
            "priority": _PRIORITY,
            "pool": _POOL,
            "max_running_jobs": {**_COUNT, "description": "So many of its jobs run at once, over all its executions."},
            "credentials": {"type": "array"},
        },
        "$defs": {
            "steps": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}},
            "step": _step(schemas),
            "task": {
                "type": "object",
                "anyOf": [{"required": [key]} for key in ("name", "task")],
                "properties": {
                    **_kinds(schemas),
                    **_inputs(),
                    "timeout": _DURATION,
                    "retry": _RETRY,
                    "on_error": _words("fail", "continue"),
                },
                "allOf": _arguments(schemas),
            },
            "loop": _LOOP,
            "target": {
                "anyOf": [
                    _TEXT,
                    {"type": "object", "properties": {**dict.fromkeys(IDENTITY, _TEXT), **_inputs()}},
                ]
            },
            "transition": {
                "anyOf": [_TEXT, {"type": "object", "properties": _transition()}],
            },
        },
    }


def _step(schemas: ActionSchemas) -> dict[str, Any]:
    transitions = {"type": "array", "items": {"$ref": "#/$defs/transition"}}
    return {
        "type": "object",
        "anyOf": [{"required": [key]} for key in IDENTITY],
        "properties": {
            **dict.fromkeys((*IDENTITY, "desc", "description"), _TEXT),
            "task": {"type": ["string", "object"], "description": "The workbook task, or an iterator's own."},
            **_kinds(schemas),
            **_inputs(),
            "call": _MAP,
            "pass": {**_CONDITION, "description": "True skips the action."},
            "when": {**_CONDITION, "description": "False skips the action."},
            "next": {"anyOf": [{"$ref": "#/$defs/transition"}, transitions]},
            "next_mode": _words("inclusive", "exclusive"),
            "loop": {"$ref": "#/$defs/loop"},
            "timeout": _DURATION,
            "result": {"description": "On the step end: the result of the execution; on the end of a loop: its own."},
            "end_loop": {**_TEXT, "description": "The loop over several steps that this step closes."},
            "join": _words("any", "all"),
            "retry": _RETRY,
            "retry_delay": _DELAY,
            "on_error": _ON_ERROR,
            "undo": {"type": ["object", "string"], "description": "Undoes the step when the execution fails later."},
            **dict.fromkeys(SAVE, _SAVE),
            "priority": _PRIORITY,
            "pool": _POOL,
            # On an iterator a number is the loop's.
            "limit": {"anyOf": [_LIMIT, *_LOOP_KEYS["limit"]["anyOf"]]},
            "transform": {"type": "object", "properties": _transform()},
        },
        "allOf": _arguments(schemas),
    }


def _child() -> dict[str, Any]:
    return {
        **{key: {**_TEXT, "description": "The playbook to run; PATH/* runs all below."} for key in CHILD_PATH},
        "version": {**_TEXT, "description": "The newest without it."},
        **{key: {**_TEXT, "description": "Whose result is the answer, or a template."} for key in CHILD_ANSWER},
    }


def _waits() -> dict[str, dict[str, Any]]:
    return {
        "wait": {
            "duration": {"anyOf": [_DURATION, _TEMPLATE]},
            "until": {**_TEXT, "description": "A time with its zone, or a template that gives one."},
            "for": {"anyOf": [_TEXT, {"type": "object", "required": ["signal"]}]},
            "signal": {**_TEXT, "description": "The name of the signal to wait for."},
        },
        "approval": {
            "message": {**_TEXT, "description": "What is to be approved."},
            "form": {"type": "object", "additionalProperties": _FIELD},
            "approvers": _NAMES,
        },
    }


def _transform() -> dict[str, Any]:
    return {name: _MAP if name == "mapping" else _TEXT for name in TRANSFORM_KEYS}


def _transition() -> dict[str, Any]:
    return {
        "when": _CONDITION,
        "then": _BRANCH,
        "else": _BRANCH,
        **dict.fromkeys(IDENTITY, _TEXT),
        **_inputs(),
    }


def _kinds(schemas: ActionSchemas) -> dict[str, Any]:
    kinds = [*schemas.kinds, *sorted(LANGUAGE_KINDS)]
    named = {"anyOf": [{"enum": kinds}, _TEXT], "description": "The action kind."}
    wrapped = {**named, "anyOf": [*named["anyOf"], {"type": "object"}]}
    return {name: wrapped if name == "tool" else named for name in KIND}


def _inputs() -> dict[str, Any]:
    return {name: {"description": "Inputs of the action."} for name in INPUTS}


def _arguments(schemas: ActionSchemas) -> list[dict[str, Any]]:
    """What each kind takes, when a step names it; a template may stand for any value of an action's argument."""
    kinds = {
        PLAYBOOK: _child(),
        ITERATOR: {**_LOOP_KEYS, "run": {"type": "array", "maxItems": 1}},
        TRANSFORM: _transform(),
        **_waits(),
    }
    for kind in schemas.kinds:
        arguments = {} if schemas[kind].is_nested else schemas[kind].schema.get("properties", {})
        # A key of the step is the step's, also where an action has an argument of that name.
        own = {name: it for name, it in arguments.items() if name not in STEP_CONTROL}
        kinds[kind] = {name: {"anyOf": [_without_references(it), _TEMPLATE]} for name, it in own.items()}
        if CODE[0] in own:
            kinds[kind] |= dict.fromkeys(CODE[1:], _TEXT)
        if CREDENTIAL[0] in own:
            kinds[kind] |= {**dict.fromkeys(CREDENTIAL, _CREDENTIAL), **dict.fromkeys(GENERIC_AUTH, _TEXT)}
    return [
        {
            "if": {"required": ["type"], "properties": {"type": {"const": kind}}},
            "then": {"properties": properties},
        }
        for kind, properties in kinds.items()
    ]


def _without_references(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an argument; one that refers to definitions of its kind keeps its description only."""
    if "$ref" in str(schema):
        return {key: value for key, value in schema.items() if key in ("description", "title")}
    return schema
