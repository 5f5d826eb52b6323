"""What a job of the kind `save` is given, whatever the storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from executors import contract
from executors.auth import Auth


class SaveArguments(contract.Arguments):
    """Where it goes, how, and what: the keys of a playbook's `save`, but for those that say when it runs."""

    storage: str = Field("event_log", description="Where it is written.")
    auth: Auth | None = Field(None, description="The credential: its name, or a map that leads to one.")
    use_auth: str | None = Field(None, description="Which of several aliases in `auth` is meant.")
    spec: dict[str, Any] = Field({}, description="What the storage wants to know beside it.")
    table: str | None = Field(None, description="Where in the storage.")
    mode: Literal["append", "overwrite", "update", "upsert"] = Field(
        "append", description="What becomes of what is there already."
    )
    key: str | list[str] | None = Field(None, description="By which columns `update` and `upsert` find a row.")
    data: Any = Field(None, description="What is saved: the result of the step when nothing is said.")
    statement: str | None = Field(
        None,
        description="Instead of `table`: with `:NAME`, which is bound",
        json_schema_extra={"x-noetl-template": "sql"},
    )
    code: str | None = Field(
        None,
        min_length=1,
        description="Of `python`: Python that defines `main`",
        json_schema_extra={"x-noetl-template": "verbatim"},
    )
    params: dict[str, Any] | list[dict[str, Any] | list[dict[str, Any]]] | None = Field(
        None, description="The values of `statement`: a map, or a list of them."
    )
    format: Literal["csv", "json", "jsonl", "parquet"] | None = Field(None, description="Of files.")
    chunk_size: int | None = Field(None, ge=1, description="So many rows, or items of a loop, at a time.")
    of_items: bool = Field(
        False, description="Set by the engine: `data` and `params` have an entry for each of several items of a loop."
    )

    def rows(self) -> list[Any]:
        """What is to be saved, one by one: a list is its entries, anything else is one.

        Of several items of a loop each may have given one, or a list of them.
        """
        return _flat(self.data or []) if self.of_items else _flat([self.data])

    def parameters(self) -> list[Any]:
        """The values for `statement`, once for each time it is run: `params`, or else what is saved."""
        if self.params is None:
            return self.rows()
        if not isinstance(self.params, list):
            return [self.params]
        return _flat(self.params) if self.of_items else self.params


def _flat(given: Sequence[Any]) -> list[Any]:
    """The entries, and in place of those that are lists their own."""
    return [one for entry in given for one in (entry if isinstance(entry, list) else [entry])]
