"""What a step of the `postgres` kind takes, and the statements in it.

Knows which arguments go together; nothing of connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from executors import contract
from executors.auth import Auth
from executors.contract import ActionFailed
from executors.stores.postgres_statements import (
    Bound,
    StatementUnreadable,
    bind,
    copy_direction,
    ends_transaction,
    split_statements,
)

SQL: Final[JsonDict] = {"x-noetl-template": "sql"}


class CopyFile(contract.Arguments):
    """The file that a `COPY` of the step writes (`to`) or reads (`from`)."""

    to: str | None = Field(None, min_length=1)
    source: str | None = Field(None, alias="from", min_length=1)

    @model_validator(mode="after")
    def _one_file(self) -> CopyFile:
        if (self.to is None) == (self.source is None):
            raise ValueError("give one of to and from")
        return self

    @property
    def direction(self) -> str:
        return "from" if self.to is None else "to"

    @property
    def name(self) -> str:
        return self.to or self.source or ""


class PostgresArguments(contract.Arguments):
    """One of `command`, `commands` and `query`; and where it runs: `auth`, fields of the step or its inputs, both."""

    command: str | list[str] | None = Field(None, json_schema_extra=SQL, description="Statements, split at `;`.")
    commands: str | list[str] | None = Field(None, json_schema_extra=SQL, description="The same as `command`.")
    query: str | list[str] | None = Field(None, json_schema_extra=SQL, description="The same as `command`.")
    auth: Auth | None = Field(None, description="The credential: its name, or a map that leads to one.")
    use_auth: str | None = Field(None, description="Which of several aliases in `auth` is meant.")
    db_host: str | None = Field(None, description="Wins over the credential's, as the other fields do.")
    db_port: int | str | None = Field(None, description="5432, if nobody says another.")
    db_user: str | None = Field(None, description="The role.")
    db_password: str | None = Field(
        None, description="Counts where the credential has none: write `{{ secret.NAME }}`."
    )
    db_name: str | None = Field(None, description="The database.")
    db_conn_string: str | None = Field(None, description="A DSN; wins over the fields beside it.")
    dsn: str | None = Field(None, description="The same as `db_conn_string`.")
    sslmode: str | None = Field(None, description="libpq's own: `require`, `verify-full`, ...")
    params: dict[str, Any] | None = Field(None, description="Values that are bound, as `:name` or `%(name)s`.")
    transaction: Literal["per_statement", "all"] | None = Field(
        None, description="Whether each statement counts for itself (`per_statement`, the default), or all or none do."
    )
    on_statement_error: Literal["stop", "continue"] = Field(
        "stop", description="What becomes of the statements behind."
    )
    files: CopyFile | list[CopyFile] = Field(
        default_factory=list,
        alias="copy",
        description="The file of a `COPY`, `{to: FILE}` or `{from: FILE}`, in the execution's folder; or a list.",
    )
    rows_to: Literal["result", "file"] = Field("result", description="Where the rows of queries go.")
    exactly_once: bool = Field(
        False,
        description="One transaction, noted in `noetl_effects` of the same database: a repeated attempt does nothing.",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> PostgresArguments:
        if sum(given is not None for given in (self.command, self.commands, self.query)) != 1:
            raise ValueError("give exactly one of command, commands and query")
        if self.exactly_once and self.transaction == "per_statement":
            raise ValueError("exactly_once needs one transaction: leave out `transaction`, or write `all`")
        if self.whole and self.on_statement_error == "continue":
            raise ValueError("with transaction: all, on_statement_error cannot be continue")
        return self

    @property
    def whole(self) -> bool:
        """Whether all statements are one transaction."""
        return self.exactly_once or self.transaction == "all"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the server gets it, and the file of its `COPY`."""

    text: str
    values: tuple[Any, ...] = ()
    file: CopyFile | None = None


def read_statements(arguments: PostgresArguments) -> list[Statement]:
    """The statements in order. Raises: `ActionFailed` (`arguments_invalid`, `sql_error`), before any has run."""
    given = arguments.command or arguments.commands or arguments.query or ""
    params = arguments.params
    files = list(arguments.files) if isinstance(arguments.files, list) else [arguments.files]
    statements: list[Statement] = []
    try:
        for text in [given] if isinstance(given, str) else given:
            for statement in split_statements(text):
                if arguments.whole and ends_transaction(statement):
                    raise StatementUnreadable("with transaction: all, a statement may not begin or end one")
                bound = Bound(statement) if params is None else bind(statement, params)
                values = tuple((params or {})[name] for name in bound.names)
                statements.append(Statement(bound.text, values, _file_of(statement, files)))
    except StatementUnreadable as error:
        raise ActionFailed("sql_error", f"command_{len(statements)}: {error}") from None
    if files:
        raise ActionFailed("arguments_invalid", f"copy: there is no COPY of the client's for {files[0].name!r}")
    return statements


def _file_of(statement: str, files: list[CopyFile]) -> CopyFile | None:
    """The next of the files, which is taken out, when the statement is a COPY to or from its client."""
    direction = copy_direction(statement)
    if direction is None:
        return None
    if not files or files[0].direction != direction:
        raise StatementUnreadable(f"name the file of this COPY, as in copy: {{{direction}: FILE}}")
    return files.pop(0)
