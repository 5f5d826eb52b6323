"""The `postgres` kind: what becomes of the statements of one job.

Knows transactions, results and refusals; the SQL arrives rendered and escaped, and is not changed here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, Self

import psycopg

from executors import contract
from executors.actions.postgres.arguments import PostgresArguments, Statement, read_statements
from executors.actions.postgres.files import FiledRows
from executors.auth import bound_credential
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.sandbox.rows import RowBudget
from executors.sandbox.sanitise import OutputInvalid, sanitise
from executors.sandbox.sparing import Sparing, told_seconds
from executors.stores.files import ExecutionFiles, place_name
from executors.stores.postgres_effects import Effects
from executors.stores.postgres_pool import Pool
from executors.stores.postgres_session import KeptRows, Session, StatementFailed
from executors.stores.postgres_statements import first_words
from executors.stores.postgres_target import (
    OWN_FIELDS,
    ForbiddenTarget,
    Target,
    forbidden_targets,
    refuse_own_database,
    target_of,
)

NO_PARAMETER: Final = "42P02"
"""What the server says to `$1` in a statement that takes no parameters; or else it finds a syntax error there."""
SYNTAX: Final = "42601"
MAX_WORD: Final = 20

EXAMPLE: Final = """\
apiVersion: noetl.io/v1
kind: Playbook
name: orders_of_a_day
path: examples/orders_of_a_day
workload: {day: "2024-05-01"}
workflow:
  - step: start
    type: postgres
    auth: shop
    query: SELECT id, total FROM orders WHERE day = :day
    params: {day: "{{ day }}"}
    next: end
  - step: end
    result: "{{ start.command_0.rows }}"
"""


class PostgresAction(contract.ActionKind):
    """Runs SQL in a Postgres database: statements in order on one connection. The first error ends it, unless told to
    go on.
    """

    name: ClassVar[str] = "postgres"
    Arguments: ClassVar[type[contract.Arguments]] = PostgresArguments
    result: ClassVar[str] = (
        "`{command_0: {status, rows, row_count, columns}, command_1: ...}`; without rows"
        " `{status, row_count, message}`, with a file `path` and `bytes` in place of the rows, and after an error"
        " `{status, message, sqlstate}`."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "sql_error": "the database refused a statement, or it is no SQL; the data are the results before it",
        "postgres_connection": "no connection",
        "target_forbidden": "the connection leads to the platform's own database or role",
        "credential_invalid": "the credential lacks a field",
        "output_too_large": "more than 10,000 rows or 10 MB: use `copy` or `rows_to: file`; or rows of 256 MB",
        "path_not_allowed": "a file outside of the execution's folder",
        "file_error": "a file is not there, or cannot be read or written",
        "timeout": "the step's time is over; the statement is stopped on the server, too",
    }
    example: ClassVar[str] = EXAMPLE

    def __init__(self, forbidden: Iterable[ForbiddenTarget] = (), pool: Pool | None = None) -> None:
        self._forbidden = tuple(forbidden)
        self._pool = pool or Pool()

    @classmethod
    def build(cls, settings: Any) -> Self:
        """The platform's own databases are forbidden to steps."""
        return cls(forbidden_targets(settings))

    def target_options(self, credential: contract.Credential) -> dict[str, str]:
        """libpq's options of a credential that a step may use.

        Raises: `ActionFailed` (`credential_invalid`, `target_forbidden`).
        """
        options = dict(target_of(credential, {}).options)
        refuse_own_database(options, self._forbidden)
        return options

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """`{"command_<i>": {...}}`. Raises: `ActionFailed`, whose `data` holds the results so far."""
        deadline = time.monotonic() + request.timeout_seconds
        arguments = PostgresArguments.check(request.arguments)
        statements = read_statements(arguments)
        files = ExecutionFiles(context.data_dir, request.execution_id)
        for statement in statements:
            if statement.file is not None:
                files.check(statement.file.name)
        target = _target(arguments, request, context)
        told = Sparing(context.log)
        try:
            with self._pool.lend(target, self._forbidden, deadline, context.cancelled) as session:
                return _Run(session, arguments, request, target, files, told).all(statements)
        finally:
            told.end()

    def close(self) -> None:
        """Close the connections that wait for a job."""
        self._pool.close()


def _target(arguments: PostgresArguments, request: ActionRequest, context: ActionContext) -> Target:
    """Where the step leads: its inputs count as its own fields do, in which the older playbooks have them."""
    own = {name: request.inputs[name] for name in OWN_FIELDS if name in request.inputs}
    own |= {name: getattr(arguments, name) for name in OWN_FIELDS if name in arguments.model_fields_set}
    bound = bound_credential(arguments.auth, arguments.use_auth, context)
    target = target_of(bound.credential if bound else None, own)
    context.keep_secret(target.secrets.secret_texts())
    return target


def _kind_of(statement: Statement) -> str:
    words = first_words(statement.text)
    return words[0][:MAX_WORD].upper() if words else "?"


class _Run:
    """The statements of one job on one open connection."""

    def __init__(
        self,
        session: Session,
        arguments: PostgresArguments,
        request: ActionRequest,
        target: Target,
        files: ExecutionFiles,
        told: Sparing,
    ) -> None:
        self._session = session
        self._arguments = arguments
        self._request = request
        self._target = target
        self._files = files
        self._told = told
        self._budget = RowBudget()
        self._results: dict[str, Any] = {}
        self._failures: list[str] = []

    def all(self, statements: list[Statement]) -> Any:
        if self._arguments.whole:
            return self._whole(statements)
        self._each(statements)
        if self._failures:
            raise ActionFailed("sql_error", "; ".join(self._failures), data=self._results)
        if self._session.in_transaction:
            raise ActionFailed(
                "sql_error",
                "a transaction was left open and is rolled back; end it with COMMIT",
                data=self._results,
            )
        return self._results

    def _whole(self, statements: list[Statement]) -> Any:
        effects = None
        if self._arguments.exactly_once:
            with self._naming("exactly_once"):
                effects = Effects(self._session, self._request.effect_key)
        with self._naming("BEGIN"):
            self._session.run("BEGIN")
        if effects is not None:
            with self._naming("exactly_once"):
                if (outcome := effects.claim()) is not None:
                    self._told.tell("an earlier attempt did it: nothing is run")
                    self._session.run("ROLLBACK")
                    return outcome
        self._each(statements)
        if effects is not None:
            with self._naming("exactly_once"):
                # What cannot be stored as a result must fail while there is a way back.
                effects.keep(sanitise(self._results))
        with self._naming("COMMIT"):
            if self._session.run("COMMIT")["message"] != "COMMIT":
                raise StatementFailed("the transaction was rolled back")
        return self._results

    def _each(self, statements: list[Statement]) -> None:
        for index, statement in enumerate(statements):
            name, started = f"command_{index}", time.monotonic()
            try:
                with self._naming(name):
                    self._results[name] = self._one(name, statement)
            except ActionFailed as failure:
                self._tell(name, statement, started, failure)
                if failure.code != "sql_error" or self._arguments.on_statement_error == "stop":
                    raise
                self._failures.append(str(failure))
            else:
                self._tell(name, statement, started)

    def _tell(self, name: str, statement: Statement, started: float, failure: ActionFailed | None = None) -> None:
        """A line in the log: nothing of the statement but its first word, and nothing of what the server says."""
        what = f"{name} {_kind_of(statement)}"
        taken, result = told_seconds(time.monotonic() - started), self._results.get(name, {})
        if failure is not None:
            self._told.tell(f"{what}: failed after {taken} ({result.get('sqlstate') or failure.code})", "warning")
            return
        written = f", {result['bytes']:,} bytes" if "bytes" in result else ""
        self._told.tell(f"{what}: {result.get('row_count', 0):,} rows{written} in {taken}")

    def _one(self, name: str, statement: Statement) -> dict[str, Any]:
        if statement.file is not None:
            return self._copy(statement)
        if self._arguments.rows_to == "result":
            return self._session.run(statement.text, statement.values, KeptRows(self._budget))
        with FiledRows(self._files, f"{place_name(self._request)}.{name}.jsonl").open() as rows:
            return self._session.run(statement.text, statement.values, rows)

    def _copy(self, statement: Statement) -> dict[str, Any]:
        assert statement.file is not None
        name = statement.file.name
        if statement.file.to is None:
            with self._files.reading(name) as file:
                told = self._session.copy_from(statement.text, file)
                return {**told, "path": name, "bytes": file.tell()}
        with self._files.writing(name) as file:
            told = self._session.copy_to(statement.text, file)
            return {**told, "path": name, "bytes": file.tell()}

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Turn what can go wrong into a failure that names the statement and holds no password."""
        try:
            yield
        except StatementFailed as error:
            message = self._target.mask(str(error))
            if error.sqlstate == NO_PARAMETER or (error.sqlstate == SYNTAX and 'near "$' in message):
                message += " (`params` can be bound in queries, INSERT, UPDATE, DELETE, MERGE and CALL only)"
            self._results[name] = {"status": "error", "message": message, "sqlstate": error.sqlstate}
            raise ActionFailed("sql_error", f"{name}: {message}", data=self._results) from None
        except OutputInvalid as error:
            raise ActionFailed(error.code, f"{name}: {error}") from None
        except (psycopg.Error, TypeError, ValueError) as error:
            # Parameters that cannot be written as SQL, values that cannot be read.
            message = self._target.mask(f"{type(error).__name__}: {error}")
            self._results[name] = {"status": "error", "message": message}
            raise ActionFailed("sql_error", f"{name}: {message}", data=self._results) from None
