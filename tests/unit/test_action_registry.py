"""The registry: every kind is there, schemas say what is rendered how, building starts nothing."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import jsonschema
import psutil
import pytest

from executors.actions.postgres import ForbiddenTarget
from executors.contract import ActionFailed, ActionRequest
from executors.registry import argument_schemas, build_registry
from executors.running import Lent
from executors.worker.wire import ENCODED, INPUTS, TYPE_SPELLINGS, ActionUnreadable, read_action, tell_action


def test_building_starts_no_process() -> None:
    before = len(psutil.Process().children())
    registry = build_registry(SimpleNamespace(DATABASES={}))
    names = {"python", "http", "postgres", "duckdb", "secrets", "transfer", "save", "notify", "shell"}
    assert set(registry) == names == set(argument_schemas())
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


def test_kinds_are_built_as_the_settings_say() -> None:
    """A step at the platform's own database, and one below the least isolation, are refused."""
    database = {"HOST": "db", "PORT": 5433, "NAME": "noetl", "USER": "app", "PASSWORD": "x"}
    settings = SimpleNamespace(
        NOETL_HTTP_ALLOWED_NETWORKS=["10.0.0.0/8"],
        NOETL_PYTHON_ISOLATION="bwrap",
        NOETL_PYTHON_ISOLATION_LEAST="job",
        DATABASES={"default": database},
    )
    registry = build_registry(settings)
    assert vars(registry["postgres"])["_forbidden"] == (ForbiddenTarget("db", "5433", "noetl", "app"),)
    assert vars(registry["http"])["_policy"].allows("10.1.2.3")
    arguments = {"code": "def main(): pass", "isolation": "turn"}
    request = ActionRequest("python", arguments, {}, "e1", "e1:s", "s", 1, "e1:s", 5)
    with pytest.raises(ActionFailed, match="runs nothing below job"):
        registry["python"].run(request, Lent(Path(), Event(), pytest.fail))


def test_no_kind_takes_an_argument_that_the_wire_form_has_other_uses_for() -> None:
    for name, schema in argument_schemas().items():
        taken = {*TYPE_SPELLINGS, INPUTS, *(f"{encoded}_b64" for encoded in ENCODED)}
        assert not taken & schema["properties"].keys(), name


def test_an_action_comes_back_from_the_wire_as_it_was() -> None:
    stored = {
        "kind": "postgres",
        "arguments": {"command": "SELECT '{{ x }}'", "commands": ["a", "b"], "auth": "db", "params": {"a": [1, None]}},
        "inputs": {"code": "plain", "n": 1.5},
    }
    told = tell_action(stored)
    assert "SELECT" not in json.dumps(told) and told["commands"] == ["a", "b"]
    assert read_action(told) == read_action(json.dumps(told)) == stored


def test_code_in_base64_is_read_under_its_older_name_too() -> None:
    assert read_action({"type": "python", "code_base64": "eCA9IDE="})["arguments"] == {"code": "x = 1"}


@pytest.mark.parametrize(
    "told",
    ["", "[]", "{", 1, None, {}, {"type": 1}, {"type": "x", "with": []}, {"type": "x", "code_b64": "/w=="}],
)
def test_an_action_that_cannot_be_read_is_refused(told: Any) -> None:
    with pytest.raises(ActionUnreadable):
        read_action(told)
