"""The `save` kind: it finds the storage, and leaves the writing to it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Self

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from executors import contract
from executors.actions.save.arguments import SaveArguments
from executors.actions.save.storage import SaveContext, Storage
from executors.actions.save.storages import STORAGES
from executors.contract import ActionContext, ActionFailed, ActionRequest


def _told_of(storage: type[Storage]) -> JsonDict:
    told: JsonDict = {"takes": [*sorted(storage.takes)], "needs": [[*choice] for choice in storage.needs]}
    if storage.Spec is not None:
        told["spec"] = storage.Spec.model_json_schema()
    if storage.modes:
        told["modes"] = [*storage.modes]
    return told


_TOLD: Final[JsonDict] = {storage.name: _told_of(storage) for storage in STORAGES}


class Arguments(SaveArguments):
    """Where it goes, how, and what: the keys of a playbook's `save`, but for those that say when it runs."""

    model_config = ConfigDict(json_schema_extra={"x-noetl-nested": True})

    storage: str = Field(
        "event_log",
        description="Where it is written.",
        json_schema_extra={"enum": [*sorted(_TOLD)], "x-noetl-storages": _TOLD},
    )


class SaveAction(contract.ActionKind):
    """Writes a result somewhere: beside a step's work, for the items of a loop, or as a step's own work."""

    name: ClassVar[str] = "save"
    Arguments: ClassVar[type[contract.Arguments]] = Arguments
    result: ClassVar[str] = (
        "`{saved: STORAGE, ...}`, as the storage has it, see [Save](language.md#save); of tables"
        " `{saved, table, task_result: {status, row_count}}`, without `table` of a statement;"
        " of files `{saved, path, rows}`, of buckets `{saved, url, rows}`."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "storage_unavailable": "This worker has no such storage.",
        "arguments_invalid": "What the templates gave is not of the right type, or is no row where rows are needed.",
        "http_status": "`http`: the reply was not a 2xx; `retry` hears its `Retry-After`. Else as http steps fail.",
        "python_error": "`python`: the code raised an exception. Else as python steps fail.",
        "key_invalid": "A row lacks a column of `key`, or has null, a list or a map there.",
        "target_failed": "The database or the bucket refused it; nothing of it is written.",
        "sql_refused": "A statement of DuckDB asks for what no step may do.",
        "postgres_connection": "No connection.",
        "target_forbidden": "The connection leads to the platform's own database or role.",
        "credential_invalid": "The credential lacks a field, or is of another type.",
        "auth_invalid": "`auth` leads to no credential, to several, or says an `endpoint` of a bucket.",
        "path_not_allowed": "A database outside of the folder for databases, a file outside of the execution's.",
        "file_error": "A file cannot be written.",
        "http_connection": "No connection to the bucket, or a refused address.",
        "token_refused": "Google gave the service account no token.",
        "extra_missing": "This worker has no boto3.",
        "database_locked": "Another process kept the DuckDB file for too long.",
        "database_unreadable": "The file is no DuckDB database.",
        "timeout": "The time is over; the statement is stopped on the server, too.",
    }
    example: ClassVar[str] = """\
apiVersion: noetl.io/v1
kind: Playbook
name: saving
path: examples/saving
workflow:
  - step: start
    type: python
    code: |
      def main():
          return {"total": 3}
    save: {data: "{{ data.total }}"}
    next: end
  - {step: end, result: "{{ steps.start.meta.save }}"}
"""

    def __init__(self, storages: Iterable[Storage] = ()) -> None:
        self._storages = {storage.name: storage for storage in storages}

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With every storage that there is."""
        return cls(storage.build(settings) for storage in STORAGES)

    def work_with(self, kinds: Mapping[str, contract.ActionKind]) -> None:
        """Lend the storages these kinds, by their names."""
        for storage in self._storages.values():
            storage.work_with(kinds)

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """What the storage tells. Raises: `ActionFailed`."""
        deadline = time.monotonic() + request.timeout_seconds
        spec = Arguments.check(request.arguments)
        storage = self._storages.get(spec.storage)
        if storage is None:
            raise ActionFailed("storage_unavailable", f"this worker has no storage {spec.storage!r}")
        if spec.of_items and not isinstance(spec.data if spec.params is None else spec.params, list):
            raise ActionFailed("arguments_invalid", "data, or params: of several items it is a list")
        return storage.save(spec.rows(), spec, SaveContext(request, context, deadline))

    def close(self) -> None:
        """Close the storages."""
        for storage in self._storages.values():
            storage.close()
