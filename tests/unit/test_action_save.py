"""The kind `save`: it finds the storage, hands it the rows, and tells what it takes and needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import pytest

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.kind import SaveAction
from executors.actions.save.storage import SaveContext, Storage
from executors.actions.save.storages import STORAGES
from executors.auth import bound_credential
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.registry import argument_schemas
from executors.running import Lent, run_action
from tests.support.kinds import settings_with


class Shelf(Storage):
    """Keeps what it was given."""

    name: ClassVar[str] = "shelf"
    takes: ClassVar[frozenset[str]] = frozenset({"data", "auth"})

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.contexts: list[SaveContext] = []
        self.is_closed = False

    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        self.rows.extend(rows)
        self.contexts.append(context)
        bound = bound_credential(spec.auth, spec.use_auth, context.lent)
        told = bound.credential.data if bound is not None else {}
        return {"saved": self.name, "rows": len(rows), **told}

    def close(self) -> None:
        self.is_closed = True


def request(**arguments: Any) -> ActionRequest:
    return ActionRequest("save", arguments, {}, "e1", "e1:s#save", "s", 1, "e1:s#save", 5)


def lent() -> Lent:
    return Lent(Path(), Event(), lambda name: Credential(name, "", {"password": "s3cr3t-word"}))


def test_the_event_log_keeps_the_data_in_the_jobs_own_result() -> None:
    kind = SaveAction.build(settings_with())
    for data in ({"n": 1}, [1, "two"], None, "{{ no template }}"):
        assert kind.run(request(data=data), lent()) == {"saved": "event", "data": data}
    kind.close()


def test_a_storage_gets_rows_and_the_job() -> None:
    shelf = Shelf()
    kind = SaveAction([shelf])
    handed = [{"a": 1}, [{"a": 2}, {"a": 3}]]
    assert kind.run(request(storage="shelf", data=handed, of_items=True), lent())["rows"] == 3
    kind.run(request(storage="shelf", data=handed), lent())
    kind.run(request(storage="shelf", data={"a": 4}), lent())
    assert shelf.rows == [{"a": 1}, {"a": 2}, {"a": 3}, *handed, {"a": 4}]
    assert shelf.contexts[0].effect_key == "e1:s#save"
    kind.close()
    assert shelf.is_closed


PARAMETERS: list[tuple[dict[str, Any], list[Any]]] = [
    ({"params": {"a": 1}}, [{"a": 1}]),
    ({"params": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
    ({"data": {"a": 1}}, [{"a": 1}]),
    ({"data": [{"a": 1}, [{"a": 2}]], "of_items": True}, [{"a": 1}, {"a": 2}]),
    ({"params": [], "data": [1]}, []),
    ({"params": [{"a": 1}, [{"a": 2}, {"a": 3}], []], "of_items": True}, [{"a": 1}, {"a": 2}, {"a": 3}]),
]


@pytest.mark.parametrize(("arguments", "parameters"), PARAMETERS)
def test_a_statement_is_bound_to_its_parameters_or_to_the_rows(
    arguments: dict[str, Any], parameters: list[Any]
) -> None:
    assert SaveArguments.check(arguments).parameters() == parameters


def test_a_credential_does_not_come_out() -> None:
    outcome = run_action({"save": SaveAction([Shelf()])}, request(storage="shelf", data=1, auth="db"), lent())
    assert outcome.status == "success"
    assert "s3cr3t-word" not in str(outcome)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"storage": "elsewhere", "data": 1}, "storage_unavailable"),
    ({"storage": "shelf", "data": 1, "of_items": True}, "arguments_invalid"),
    ({"storage": "shelf", "mode": "replace"}, "arguments_invalid"),
    ({"storage": "shelf", "spec": 1}, "arguments_invalid"),
    ({"storage": "shelf", "more": 1}, "arguments_invalid"),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSED)
def test_what_cannot_be_saved_fails_with_a_code(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(ActionFailed) as failed:
        SaveAction([Shelf()]).run(request(**arguments), lent())
    assert failed.value.code == code


def test_the_schema_tells_the_storages() -> None:
    told = argument_schemas()["save"]["properties"]["storage"]
    assert told["enum"] == sorted(told["x-noetl-storages"]) == sorted(storage.name for storage in STORAGES)
    assert told["x-noetl-storages"]["event_log"] == {"takes": ["data"], "needs": []}
    assert told["x-noetl-storages"]["http"]["spec"]["required"] == ["url"]
    taken = {name for one in told["x-noetl-storages"].values() for name in one["takes"]}
    assert taken <= argument_schemas()["save"]["properties"].keys()
