"""Small stand-ins for the action kinds' schemas: what the catalog is handed at start-up."""

from __future__ import annotations

from typing import Any, Final

from catalog.domain.action_schemas import ActionSchemas

_AUTH: Final[dict[str, Any]] = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "object", "minProperties": 1}]}
_SQL: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "x-noetl-template": "sql"},
        "commands": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "x-noetl-template": "sql",
        },
        "auth": _AUTH,
        "use_auth": {"type": "string"},
        "params": {"type": "object"},
        "database": {"type": "string"},
    },
    "additionalProperties": False,
}

_SCRIPT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "file": {"type": "string"},
        "http": {"type": "string"},
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
    "oneOf": [{"required": ["file"]}, {"required": ["http"]}],
    "additionalProperties": False,
}

KINDS: Final[dict[str, dict[str, Any]]] = {
    "python": {
        "type": "object",
        "properties": {
            "code": {"type": "string", "x-noetl-template": "verbatim"},
            "script": {**_SCRIPT, "x-noetl-template": "verbatim"},
        },
        "additionalProperties": False,
    },
    "postgres": {**_SQL, "required": ["auth"]},
    "duckdb": {**_SQL, "properties": {**_SQL["properties"], "auth": {**_AUTH, "x-noetl-credentials": "many"}}},
    "secrets": {
        "type": "object",
        "properties": {
            "provider": {"enum": ["google", "vault", "env"]},
            "secret_name": {"type": "string", "minLength": 1},
            "version": {"type": ["string", "integer"]},
            "auth": {"anyOf": [*_AUTH["anyOf"], {"type": "null"}]},
            "use_auth": {"type": "string"},
        },
        "required": ["provider", "secret_name"],
        "additionalProperties": False,
    },
    "http": {
        "type": "object",
        "properties": {
            "endpoint": {"type": "string"},
            "method": {"type": "string", "enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "params": {"type": "object"},
            "payload": {},
            "data": {},
            "verify": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        },
        "required": ["endpoint"],
        "additionalProperties": False,
    },
    "notify": {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "body": {"type": "string"},
            "level": {"type": "string", "enum": ["info", "success", "warning", "failure"]},
            "format": {"type": "string"},
            "auth": {"type": "string"},
            "to": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "x-noetl-sensitive": "url",
            },
            "timeout": {"type": "number"},
        },
        "required": ["body"],
        "additionalProperties": False,
    },
    "shell": {
        "type": "object",
        "properties": {
            "command": {"type": "string", "x-noetl-template": "verbatim"},
            "args": {"type": "array"},
            "env": {"type": "object"},
            "stdin": {},
        },
        "required": ["command"],
        "additionalProperties": False,
        "x-noetl-caution": "runs only on workers that allow it",
    },
}

_WHOLE: Final = ["auth", "data", "key", "mode", "params", "spec", "statement", "table"]
_HTTP_SPEC: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "method": {"enum": ["POST", "PUT", "PATCH"]},
        "headers": {"type": "object"},
    },
    "required": ["url"],
    "additionalProperties": False,
}
_FILE_SPEC: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"path": {"type": "string"}},
    "required": ["path"],
    "additionalProperties": False,
}
KINDS["save"] = {
    "type": "object",
    "properties": {
        "storage": {
            "type": "string",
            "x-noetl-storages": {
                "event_log": {"takes": ["data"], "needs": []},
                "postgres": {"takes": _WHOLE, "needs": [["auth"], ["table", "statement"]]},
                "http": {"takes": ["auth", "data", "spec"], "needs": [], "spec": _HTTP_SPEC},
                "python": {"takes": ["code", "data", "spec"], "needs": [["code"]]},
                "file": {
                    "takes": ["data", "format", "mode", "spec"],
                    "needs": [],
                    "spec": _FILE_SPEC,
                    "modes": ["append", "overwrite"],
                },
            },
        },
        "auth": {"type": "string"},
        "spec": {"type": "object"},
        "table": {"type": "string"},
        "mode": {"type": "string"},
        "key": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "data": {},
        "statement": {"type": "string", "x-noetl-template": "sql"},
        "params": {"anyOf": [{"type": "object"}, {"type": "array"}]},
        "code": {"type": "string", "x-noetl-template": "verbatim"},
        "format": {"type": "string"},
        "chunk_size": {"type": "integer"},
    },
    "additionalProperties": False,
    "x-noetl-nested": True,
}

SCHEMAS: Final = ActionSchemas(KINDS)
