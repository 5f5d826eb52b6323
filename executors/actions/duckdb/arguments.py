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
    """SQL under one of three names; `read` names files and folders it may touch besides the step's own.

    `auth` is the name of a credential, one object, or a map from aliases to either. In `inputs`, lists of maps
    and results that a step left as a file of rows are tables of that name; anything else is a parameter.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"x-noetl-instead": LOADING})

    command: str | list[str] | None = Field(None, json_schema_extra=SQL)
    commands: str | list[str] | None = Field(None, json_schema_extra=SQL)
    query: str | list[str] | None = Field(None, json_schema_extra=SQL)
    auth: Auth | None = Field(None, json_schema_extra=MANY)
    use_auth: str | None = Field(None, description="the one of `auth` that counts")
    database: str | None = None
    read: list[str] = Field(default_factory=list)
    params: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Any] = Field(default_factory=dict)
    rows_to: Literal["auto", "parquet"] = "auto"
    on_statement_error: Literal["stop", "continue"] = "stop"

    @model_validator(mode="after")
    def _one_sql(self) -> DuckdbArguments:
        if sum(given is not None for given in (self.command, self.commands, self.query)) != 1:
            raise ValueError("give exactly one of command, commands and query")
        return self

    def statements(self) -> list[str]:
        given = self.command or self.commands or self.query or ""
        return [given] if isinstance(given, str) else given
