"""The `duckdb` kind's arguments, and the inputs of the original's steps that say what to attach.

Knows spellings; nothing of files, credentials' values or DuckDB.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from executors import contract
from executors.auth import MANY, Auth

SQL: Final[JsonDict] = {"x-noetl-template": "sql"}
LOADING: Final = "to load a file (`bucket`, `blob`, `table`) write CREATE TABLE t AS FROM read_csv('gs://BUCKET/BLOB')"
"""The original's load mode in SQL."""


class DuckdbArguments(contract.Arguments):
    """One of `command`, `commands` and `query`. SQL sees what `auth` names under its alias: `shop.TABLE`.

    In `inputs`, a list of maps, and a result that a step left as a file of rows, are tables of that name; anything else
    is a parameter. `COPY ... TO 'FILE'` writes into the execution's folder, where later steps read it.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"x-noetl-instead": LOADING})

    command: str | list[str] | None = Field(None, description="statements, split at `;`", json_schema_extra=SQL)
    commands: str | list[str] | None = Field(None, description="the same as `command`", json_schema_extra=SQL)
    query: str | list[str] | None = Field(None, description="the same as `command`", json_schema_extra=SQL)
    auth: Auth | None = Field(
        None,
        description="what is attached: a credential of type postgres, sqlite, s3 or gcs, or a map from aliases to such",
        json_schema_extra=MANY,
    )
    use_auth: str | None = Field(None, description="the one of `auth` that counts")
    database: str | None = Field(
        None, description="a file of the folder `databases`, or `:memory:`; else the execution's own file"
    )
    read: list[str] = Field(
        default_factory=list, description="files and folders it may read, inside the folders that the worker allows"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="values that are bound, as `$name`")
    inputs: dict[str, Any] = Field(default_factory=dict, description="tables and parameters, see above")
    rows_to: Literal["auto", "parquet"] = Field(
        "auto", description="`parquet`: the rows of every query go into a file, and not only those of a large one"
    )
    on_statement_error: Literal["stop", "continue"] = Field("stop", description="what becomes of the statements behind")

    @model_validator(mode="after")
    def _one_sql(self) -> DuckdbArguments:
        if sum(given is not None for given in (self.command, self.commands, self.query)) != 1:
            raise ValueError("give exactly one of command, commands and query")
        return self

    def statements(self) -> list[str]:
        given = self.command or self.commands or self.query or ""
        return [given] if isinstance(given, str) else given
