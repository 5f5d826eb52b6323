"""The registry: every kind is there, schemas say what is rendered how, building starts nothing."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import psutil

from executors.registry import ActionConfig, argument_schemas, build_registry


def test_building_starts_no_process(tmp_path: Path) -> None:
    before = len(psutil.Process().children())
    registry = build_registry(ActionConfig(tmp_path))
    assert set(registry) == {"python", "http", "postgres", "duckdb"} == set(argument_schemas())
    assert len(psutil.Process().children()) == before
    for kind in registry.values():
        kind.close()


def test_schemas_are_valid_and_closed() -> None:
    for schema in argument_schemas().values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False


def test_schemas_say_what_is_rendered_how() -> None:
    schemas = argument_schemas()
    assert schemas["python"]["properties"]["code"]["x-noetl-template"] == "verbatim"
    for kind in ("postgres", "duckdb"):
        for name in ("command", "commands", "query"):
            assert schemas[kind]["properties"][name]["x-noetl-template"] == "sql"
    assert {"url", "endpoint", "json", "payload", "body"} <= set(schemas["http"]["properties"])
