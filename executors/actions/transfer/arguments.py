"""What a step of the `transfer` kind takes. Knows which arguments go together; opens nothing."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from executors import contract
from executors.auth import MANY, Auth
from executors.stores.file_store import Format
from executors.stores.rows import Mode

READING: Final = "reading"
WRITING: Final = "writing"
"""The aliases in `auth` of what is written in `source` and in `target`."""
SOURCE: Final[JsonDict] = {"x-noetl-lifts": {"auth": f"auth.{READING}", "query": "query"}}
TARGET: Final[JsonDict] = {"x-noetl-lifts": {"auth": f"auth.{WRITING}"}}
TABLES: Final = ("postgres", "duckdb", "sqlite")
FILES: Final = ("file", "s3", "gcs")
NEEDS: Final = {
    **dict.fromkeys(TABLES, "table"),
    "file": "path",
    **dict.fromkeys(("s3", "gcs", "http"), "url"),
}
TAKES: Final = {
    "postgres": {"table"},
    "duckdb": {"table", "database"},
    "sqlite": {"table", "path"},
    "file": {"path", "format"},
    "s3": {"url", "format"},
    "gcs": {"url", "format"},
    "http": {"url"},
}

Kind = Literal["postgres", "duckdb", "sqlite", "file", "s3", "gcs", "http"]


class Place(contract.Arguments):
    """What a source and a target have in common."""

    type: Kind
    table: str | None = None
    path: str | None = None
    url: str | None = None
    database: str | None = None
    format: Format | None = None

    def _check(self, *more: str) -> None:
        taken = {"type", *TAKES[self.type], *more}
        if wrong := sorted(self.model_fields_set - taken):
            raise ValueError(f"{self.type} takes no {wrong[0]}")
        if self.type == "sqlite" and not self.path:
            raise ValueError("sqlite needs path")


class SourcePlace(Place):
    """Where rows come from."""

    next_path: str | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> SourcePlace:
        self._check(*(("path", "next_path") if self.type == "http" else ()))
        return self


class TargetPlace(Place):
    """Where rows go to."""

    mode: Mode | None = None
    key: str | list[str] | None = None
    method: Literal["POST", "PUT", "PATCH"] = "POST"

    @model_validator(mode="after")
    def _fit_together(self) -> TargetPlace:
        more = ("mode", "key") if self.type in TABLES else ("mode",) if self.type in FILES else ("method",)
        self._check(*more)
        if not getattr(self, NEEDS[self.type]):
            raise ValueError(f"{self.type} needs {NEEDS[self.type]}")
        if self.type in FILES and self.mode not in (None, "overwrite"):
            raise ValueError(f"{self.type} is written anew: its one mode is overwrite")
        if (self.mode in ("update", "upsert")) != bool(self.keys):
            raise ValueError("key belongs to the modes update and upsert, which need it")
        return self

    @property
    def keys(self) -> list[str]:
        """The columns by which rows are found."""
        return [self.key] if isinstance(self.key, str) else list(self.key or ())


class TransferArguments(contract.Arguments):
    """`source` and `target` say where; their `auth`, and the source's `query`, may stand in them.

    `source`: `type`; `table` or `query` of postgres, duckdb (`database` as of duckdb steps) and sqlite (`path`); `path`
    of a file; `url` of s3 (`s3://BUCKET/KEY`), gcs (`gs://BUCKET/NAME`) and http, of which `path` leads to the list in
    a page and `next_path` to the next page's address. `format`: csv, json, jsonl, parquet; else the name's end says it.

    `target`: the same without `query`; `mode` (`append`, `overwrite`, `update`, `upsert`) and `key` of tables; `method`
    of http.
    """

    source: SourcePlace = Field(json_schema_extra=SOURCE)
    target: TargetPlace = Field(json_schema_extra=TARGET)
    query: str | None = Field(
        None,
        min_length=1,
        json_schema_extra={"x-noetl-template": "verbatim"},
        description="One SELECT of the source's, instead of `table`. Values come in by `params`.",
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="Values that are bound in `query`: `:name`, of duckdb `$name`."
    )
    auth: Auth | None = Field(
        None, json_schema_extra=MANY, description="Written as `auth` of `source` and of `target`."
    )
    mapping: dict[str, str] | list[str] | None = Field(
        None, description="`{target column: source column}`, or a list of columns; without it all, as they are."
    )
    key: str | None = Field(
        None, min_length=1, description="A column of the source, unique and sortable: by it a transfer goes on."
    )
    chunk_size: int = Field(5000, ge=1, le=100_000, description="How many rows are read and written at a time.")

    @model_validator(mode="after")
    def _fit_together(self) -> TransferArguments:
        source = self.source
        if source.type in TABLES and (source.table is None) == (self.query is None):
            raise ValueError(f"source: give {source.type} one of table and query")
        if source.type not in TABLES:
            if self.query is not None:
                raise ValueError(f"source: {source.type} takes no query")
            if not getattr(source, NEEDS[source.type]):
                raise ValueError(f"source: {source.type} needs {NEEDS[source.type]}")
        if self.params and self.query is None:
            raise ValueError("params belong to a query")
        if self.auth is not None and (not isinstance(self.auth, dict) or not self.auth.keys() <= {READING, WRITING}):
            raise ValueError("auth: write it in source and in target")
        return self

    @property
    def pairs(self) -> dict[str, str] | None:
        """Source column by target column; None: all as they are."""
        return dict(zip(self.mapping, self.mapping, strict=True)) if isinstance(self.mapping, list) else self.mapping
