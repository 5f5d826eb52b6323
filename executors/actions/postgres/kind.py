"""The `postgres` kind's arguments and the order of its statements.

Knows transactions, results and refusals; the SQL arrives rendered and escaped, and is not changed here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import psycopg
from pydantic import Field, model_validator
from pydantic.config import JsonDict

from executors import contract
from executors.actions.postgres.connection import StatementFailed, StoppableConnection, connection_options
from executors.actions.postgres.statements import ends_transaction, split_statements
from executors.auth import Auth, bound_credential
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.sandbox.rows import RowBudget
from executors.sandbox.sanitise import OutputTooLarge

SQL: JsonDict = {"x-noetl-template": "sql"}
DEFAULT_PORT = "5432"
SERVER_SLACK_SECONDS = 2.0
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class ForbiddenTarget:
    """A database role of the orchestrator itself: steps may use neither that role nor that database."""

    host: str
    port: str
    dbname: str
    user: str


class PostgresArguments(contract.Arguments):
    """SQL under one of three names, and the credential that says where."""

    command: str | list[str] | None = Field(None, json_schema_extra=SQL)
    commands: str | list[str] | None = Field(None, json_schema_extra=SQL)
    query: str | list[str] | None = Field(None, json_schema_extra=SQL)
    auth: Auth = Field(min_length=1)
    use_auth: str | None = None
    params: dict[str, Any] | None = None
    transaction: Literal["per_statement", "all"] = "per_statement"
    on_statement_error: Literal["stop", "continue"] = "stop"

    @model_validator(mode="after")
    def _one_sql(self) -> PostgresArguments:
        if sum(given is not None for given in (self.command, self.commands, self.query)) != 1:
            raise ValueError("give exactly one of command, commands and query")
        if self.transaction == "all" and self.on_statement_error == "continue":
            raise ValueError("with transaction: all, on_statement_error cannot be continue")
        return self

    def statements(self) -> list[str]:
        given = self.command or self.commands or self.query or ""
        texts = [given] if isinstance(given, str) else given
        return [statement for text in texts for statement in split_statements(text)]


class PostgresAction(contract.ActionKind):
    """Runs statements in order on one connection and stops at the first error, unless told to go on."""

    name: ClassVar[str] = "postgres"
    Arguments: ClassVar[type[contract.Arguments]] = PostgresArguments

    def __init__(self, forbidden: Iterable[ForbiddenTarget] = ()) -> None:
        self._forbidden = tuple(forbidden)

    @classmethod
    def build(cls, settings: Any) -> Self:
        """The platform's own databases are forbidden to steps."""
        return cls(
            ForbiddenTarget(
                host=str(database.get("HOST") or ""),
                port=str(database.get("PORT") or ""),
                dbname=str(database.get("NAME") or ""),
                user=str(database.get("USER") or ""),
            )
            for database in settings.DATABASES.values()
        )

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """`{"command_<i>": {...}}`. Raises: `ActionFailed`, whose `data` holds the results so far."""
        deadline = time.monotonic() + request.timeout_seconds
        arguments = PostgresArguments.check(request.arguments)
        bound = bound_credential(arguments.auth, arguments.use_auth, context)
        assert bound is not None
        credential = bound.credential
        options = connection_options(credential)
        self._refuse_own_database(options)
        try:
            connection = StoppableConnection(options, deadline, context.cancelled)
        except (psycopg.Error, UnicodeError) as error:
            raise ActionFailed("postgres_connection", credential.mask(str(error))) from None
        try:
            return _Run(connection, arguments, deadline, credential).all()
        finally:
            connection.close()

    def _refuse_own_database(self, options: Mapping[str, str]) -> None:
        for own in self._forbidden:
            same_port = (options.get("port") or DEFAULT_PORT) == (own.port or DEFAULT_PORT)
            same_name = options["user"] == own.user or options["dbname"] == own.dbname
            hosts = (options.get("hostaddr") or options["host"]).split(",")
            if same_port and same_name and any(_places(host) & _places(own.host) for host in hosts):
                raise ActionFailed("target_forbidden", "a step may not use the orchestrator's own database or role")


class _Run:
    """The statements of one job on one open connection."""

    def __init__(
        self,
        connection: StoppableConnection,
        arguments: PostgresArguments,
        deadline: float,
        credential: contract.Credential,
    ) -> None:
        self._connection = connection
        self._arguments = arguments
        self._deadline = deadline
        self._credential = credential
        self._budget = RowBudget()
        self._results: dict[str, Any] = {}
        self._failures: list[str] = []

    def all(self) -> dict[str, Any]:
        statements = self._arguments.statements()
        whole = self._arguments.transaction == "all"
        if whole:
            self._refuse_transaction_statements(statements)
        # A net for the case that a cancel request does not get through; the clock here comes first.
        milliseconds = int((self._deadline - time.monotonic() + SERVER_SLACK_SECONDS) * 1000)
        self._plain(f"SET statement_timeout = {milliseconds}")
        if whole:
            self._plain("BEGIN")
        for index, statement in enumerate(statements):
            self._one(f"command_{index}", statement)
        if self._failures:
            raise ActionFailed("sql_error", "; ".join(self._failures), data=self._results)
        if whole:
            self._plain("COMMIT")
        elif self._connection.in_transaction:
            raise ActionFailed(
                "sql_error",
                "a transaction was left open and is rolled back; end it with COMMIT",
                data=self._results,
            )
        return self._results

    def _refuse_transaction_statements(self, statements: list[str]) -> None:
        for index, statement in enumerate(statements):
            if ends_transaction(statement):
                raise ActionFailed(
                    "sql_error",
                    f"command_{index}: with transaction: all, a statement may not begin or end one",
                )

    def _one(self, name: str, statement: str) -> None:
        try:
            with self._naming(name):
                self._results[name] = self._connection.run(statement, self._arguments.params, self._budget)
        except ActionFailed as failure:
            if failure.code != "sql_error" or self._arguments.on_statement_error == "stop":
                raise
            self._failures.append(str(failure))

    def _plain(self, statement: str) -> None:
        with self._naming(statement.split(" ", 1)[0]):
            self._connection.run(statement, None, self._budget)

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Turn what can go wrong into a failure that names the statement and holds no password."""
        try:
            yield
        except StatementFailed as error:
            message = self._credential.mask(str(error))
            self._results[name] = {"status": "error", "message": message, "sqlstate": error.sqlstate}
            raise ActionFailed("sql_error", f"{name}: {message}", data=self._results) from None
        except OutputTooLarge as error:
            raise ActionFailed(error.code, f"{name}: {error}") from None
        except (psycopg.Error, KeyError, TypeError, ValueError) as error:
            # Parameters that are missing or cannot be written as SQL, values that cannot be read.
            message = self._credential.mask(f"{type(error).__name__}: {error}")
            raise ActionFailed("sql_error", f"{name}: {message}", data=self._results) from None


def _places(host: str) -> frozenset[str]:
    """What a host name stands for; every way to say "this machine" is one place."""
    if not host or host.startswith(("/", "@")):
        return frozenset({LOCAL})
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return frozenset({host.lower()})
    return frozenset(
        LOCAL if ipaddress.ip_address(address.split("%")[0]).is_loopback else address for address in addresses
    )
