"""The registry: every kind is there, schemas say what is rendered how, building starts nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jsonschema
import psutil

from executors.actions.postgres import ForbiddenTarget
from executors.registry import RegistryConfig, argument_schemas, build_registry


def test_building_starts_no_process(tmp_path: Path) -> None:
    before = len(psutil.Process().children())
    registry = build_registry(RegistryConfig(tmp_path))
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


def test_the_settings_databases_are_forbidden(tmp_path: Path) -> None:
    database = {"HOST": "db", "PORT": 5433, "NAME": "noetl", "USER": "app", "PASSWORD": "x"}
    settings = SimpleNamespace(
        NOETL_DATA_DIR=str(tmp_path),
        NOETL_HTTP_ALLOWED_NETWORKS=["10.0.0.0/8"],
        DATABASES={"default": database},
    )
    config = RegistryConfig.from_settings(settings)
    assert config.forbidden_postgres == (ForbiddenTarget("db", "5433", "noetl", "app"),)
    assert config.http_allowed_networks == ("10.0.0.0/8",) and config.data_dir == tmp_path
