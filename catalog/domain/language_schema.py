"""The JSON Schema of playbooks as they are written, for editors: completion and first checks.

It accepts what `normalise` accepts, and is looser: reachability, names and templates are judged there only.
"""

from __future__ import annotations

from typing import Any, Final

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.spelling import IDENTITY, INPUTS, KIND, ROUTING_KINDS

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


def build_language_schema(schemas: ActionSchemas) -> dict[str, Any]:
    """The schema, with the arguments of the given action kinds."""
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
            "workload": {"type": "object", "description": "Default input data of an execution."},
            **{key: {"$ref": "#/$defs/steps"} for key in ("workflow", "steps")},
            "workbook": {"type": "array", "items": {"$ref": "#/$defs/task"}},
            "max_visits": {"type": "integer", "minimum": 1},
        },
        "$defs": {
            "steps": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}},
            "step": _step(schemas),
            "task": {
                "type": "object",
                "anyOf": [{"required": [key]} for key in ("name", "task")],
                "properties": {**_kinds(schemas), **_inputs(), "timeout": _DURATION},
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


_LOOP: Final = {
    "type": "object",
    "required": ["in", "iterator"],
    "properties": {
        "in": {"type": ["string", "array"], "description": "A list, or a template that gives one."},
        "iterator": {"type": "string", "description": "Name of the item in templates."},
        **{key: {"type": ["string", "boolean", "number", "null"]} for key in ("filter", "where")},
        "mode": {"enum": ["parallel", "async", "sequential"]},
        "concurrency": {"type": "integer", "minimum": 1},
        "on_error": {"enum": ["fail", "continue"]},
    },
    "additionalProperties": False,
}


def _step(schemas: ActionSchemas) -> dict[str, Any]:
    transitions = {"type": "array", "items": {"$ref": "#/$defs/transition"}}
    return {
        "type": "object",
        "anyOf": [{"required": [key]} for key in IDENTITY],
        "properties": {
            **dict.fromkeys((*IDENTITY, "desc", "description"), _TEXT),
            **_kinds(schemas),
            **_inputs(),
            "call": _MAP,
            "pass": {**_CONDITION, "description": "True skips the action."},
            "when": {**_CONDITION, "description": "False skips the action."},
            "next": {"anyOf": [{"$ref": "#/$defs/transition"}, transitions]},
            "next_mode": {"enum": ["inclusive", "exclusive"]},
            "loop": {"$ref": "#/$defs/loop"},
            "timeout": _DURATION,
            "result": {"description": "On the step end: the result of the execution."},
        },
        "allOf": _arguments(schemas),
    }


def _transition() -> dict[str, Any]:
    return {
        "when": _CONDITION,
        "then": _BRANCH,
        "else": _BRANCH,
        **dict.fromkeys(IDENTITY, _TEXT),
        **_inputs(),
    }


def _kinds(schemas: ActionSchemas) -> dict[str, Any]:
    kinds = [*schemas.kinds, "workbook", *sorted(ROUTING_KINDS)]
    named = {"anyOf": [{"enum": kinds}, _TEXT], "description": "The action kind."}
    return dict.fromkeys(KIND, named)


def _inputs() -> dict[str, Any]:
    return {name: {"description": "Inputs of the action."} for name in INPUTS}


def _arguments(schemas: ActionSchemas) -> list[dict[str, Any]]:
    """What each kind's arguments look like, when a step names it; a template may stand for any value."""
    rules = []
    for kind in schemas.kinds:
        properties = {
            name: _without_references(schema) for name, schema in schemas[kind].schema.get("properties", {}).items()
        }
        rules.append(
            {
                "if": {"required": ["type"], "properties": {"type": {"const": kind}}},
                "then": {"properties": {name: {"anyOf": [it, _TEMPLATE]} for name, it in properties.items()}},
            }
        )
    return rules


def _without_references(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an argument; one that refers to definitions of its kind keeps its description only."""
    if "$ref" in str(schema):
        return {key: value for key, value in schema.items() if key in ("description", "title")}
    return schema
