"""The `duckdb` kind: runs SQL on a DuckDB file in a killable child.

Knows what a step may touch and whom it may reach; running and confining the SQL is the sandbox program's matter. The
child keeps the worker's uid to write into the data folder.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from executors import contract
from executors.actions.duckdb.arguments import DuckdbArguments
from executors.actions.duckdb.attaching import NAME, PostgresOptions, attached
from executors.actions.duckdb.references import Reference, references
from executors.contract import ActionContext, ActionFailed, ActionRequest, Credential
from executors.sandbox.host import JobFailure, Limits, Sandbox
from executors.stores.files import place_name
from executors.stores.places import ROWS, Places

EXTENSIONS: Final = {"httpfs": "httpfs", "postgres": "postgres_scanner", "sqlite": "sqlite_scanner"}
"""The short name of each extension that may be loaded, and its wheel's."""
LOADS_HTTPFS: Final = re.compile(r"\bload\s+'?httpfs", re.IGNORECASE)
MEMORY_LIMIT: Final = "1GB"
LOCK_WAIT_SECONDS: Final = 30.0
FILE_BYTES: Final = 16 << 30
"""The largest file that a step may make."""
EXAMPLE: Final = """\
apiVersion: noetl.io/v1
kind: Playbook
name: sales_per_city
path: examples/sales_per_city
workload: {sales: [{city: Oslo, units: 3}, {city: Rome, units: 5}, {city: Oslo, units: 4}]}
workflow:
  - step: start
    type: duckdb
    inputs: {sales: "{{ workload.sales }}"}
    command: |
      COPY sales TO 'sales.csv';
      SELECT city, sum(units)::int AS units FROM sales GROUP BY city HAVING sum(units) >= $least ORDER BY city;
    params: {least: 5}
    next: end
  - {step: end, result: "{{ start.command_1.rows }}"}
"""


def no_postgres(credential: Credential) -> Mapping[str, str]:
    """For a kind that was built without leave to reach servers. Raises: `ActionFailed`."""
    raise ActionFailed("not_supported", f"{credential.name}: this worker attaches no Postgres databases")


class DuckdbAction(contract.ActionKind):
    """Runs SQL in DuckDB: on the execution's own database, on files, and on the databases and buckets that it attaches.
    Statements run in order, and the first error ends it, unless told to go on.
    """

    name: ClassVar[str] = "duckdb"
    Arguments: ClassVar[type[contract.Arguments]] = DuckdbArguments
    result: ClassVar[str] = (
        "`{command_0: {status, rows, row_count, columns}, command_1: ...}`; without rows"
        " `{status, row_count, message}`, with more than 10,000 of them or 10 MB, or `rows_to: parquet`,"
        " `{status, path, row_count, columns, bytes}`, and after an error `{status, message}`. To attach what is"
        " attached gives `{status: skipped, message}`."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "sql_error": "DuckDB refused a statement, or it is no SQL; the data are the results before it",
        "sql_refused": "a statement asks for what no step may do; the message says what to write in its place",
        "attach_failed": "a database or bucket of `auth` cannot be attached",
        "auth_invalid": "`auth` leads to no credential, or an alias is no name for SQL",
        "credential_invalid": "the credential lacks a field",
        "target_forbidden": "the credential leads to the platform's own database or role",
        "not_supported": "`auth` names what DuckDB steps do not attach",
        "extension_missing": "what `auth` names needs an extension that the worker lacks",
        "path_not_allowed": "a file outside of the allowed folders, or one that is not there",
        "database_locked": "another process kept the file for too long",
        "output_invalid": "a value that is not JSON",
        "output_too_large": "rows that cannot go into a file, as those of `RETURNING`, are too many",
        "killed": "the process was killed",
        "timeout": "the step's time is over; the process is killed",
    }
    example: ClassVar[str] = EXAMPLE

    def __init__(
        self,
        allowed_directories: Iterable[Path] = (),
        *,
        memory_limit: str = MEMORY_LIMIT,
        threads: int = 2,
        postgres_options: PostgresOptions = no_postgres,
    ) -> None:
        self._allowed_directories = [path.resolve() for path in allowed_directories]
        self._memory_limit = memory_limit
        self._threads = threads
        self._postgres_options = postgres_options
        # Memory is bounded by DuckDB's own limit: its address space is much larger than what it uses.
        limits = Limits(memory_bytes=0, file_bytes=FILE_BYTES, open_files=1024)
        self._sandbox = Sandbox("duckdb", limits, drop_privileges=False)

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the folders and the bound of memory of the settings."""
        return cls(
            (Path(folder) for folder in getattr(settings, "NOETL_DUCKDB_ALLOWED_DIRECTORIES", ())),
            memory_limit=getattr(settings, "NOETL_DUCKDB_MEMORY_LIMIT", MEMORY_LIMIT),
        )

    def let_attach_postgres(self, options: PostgresOptions) -> None:
        """Attach Postgres databases from now on, those for which this gives options."""
        self._postgres_options = options

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """`{"command_<i>": {...}}`.

        Raises: `ActionFailed` (`sql_error`, `sql_refused`, `attach_failed`, `path_not_allowed`, `database_locked`,
        `auth_invalid`, `target_forbidden`, or a code of `JobFailure`); its `data` holds the results so far.
        """
        arguments = DuckdbArguments.check(request.arguments)
        places = Places(context.data_dir, self._allowed_directories, request.execution_id)
        named = references(arguments.auth, arguments.use_auth, request.inputs, context)
        found = attached(named, places, self._postgres_options)
        asked = found.extensions | ({"httpfs"} if any(map(LOADS_HTTPFS.search, arguments.statements())) else set())
        rows_folder = f"{ROWS}/{place_name(request)}.{request.attempt}"
        tables, params = _tables_and_params(arguments.inputs, places)
        work = tempfile.mkdtemp(prefix=f"{request.execution_id}-", dir=places.work)
        payload = {
            "database": places.database(arguments.database),
            "statements": arguments.statements(),
            "params": {**params, **arguments.params},
            "goes_on": arguments.on_statement_error == "continue",
            "files": str(places.files),
            "rows_folder": rows_folder,
            "rows_to_file": arguments.rows_to == "parquet",
            "tables": tables,
            "extensions": wheel_extensions(asked),
            "temp_directory": work,
            "temp_size": f"{FILE_BYTES}B",
            "memory_limit": self._memory_limit,
            "threads": self._threads,
            "lock_wait_seconds": min(LOCK_WAIT_SECONDS, request.timeout_seconds),
            **found.payload(),
            **places.readable(arguments.read),
        }
        try:
            result = self._sandbox.run(
                payload,
                timeout_seconds=request.timeout_seconds,
                cancelled=context.cancelled,
                workdir=places.files,
                printed=context.take_printed,
            )
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if result.failure is not None:
            if result.failure.data is None:
                # Files of rows that nobody is told of.
                shutil.rmtree(places.files / rows_folder, ignore_errors=True)
            raise _failed(result.failure, named)
        return result.value

    def close(self) -> None:
        self._sandbox.close()


def _failed(failure: JobFailure, named: Sequence[Reference]) -> ActionFailed:
    """A failure as the worker reports it, without the values of any credential of the step."""

    def masked(text: str) -> str:
        for reference in named:
            text = reference.credential.mask(text)
        return text

    data = failure.data
    if isinstance(data, dict):
        # Only messages can hold them: what SQL returns was never a credential's.
        data = {
            name: {**result, "message": masked(str(result["message"]))} if result.get("status") == "error" else result
            for name, result in data.items()
        }
    return ActionFailed(failure.code, masked(failure.message), data=data)


def _tables_and_params(inputs: Mapping[str, Any], places: Places) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs that SQL sees as tables, and those that are bound as parameters."""
    tables: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
            tables[name] = value
        elif isinstance(value, Mapping) and {"path", "row_count", "columns"} <= value.keys():
            tables[name] = places.rows_file(str(value["path"]))
        else:
            params[name] = value
    if wrong := [name for name in tables if not NAME.fullmatch(name)]:
        raise ActionFailed("arguments_invalid", f"inputs: {wrong[0]!r} is no table's name: use letters, digits and _")
    return tables, params


def wheel_extensions(names: Iterable[str]) -> dict[str, str]:
    """Files of extensions that came with the installation, by short name. Found without importing anything.

    Raises: `ActionFailed` when one is not installed.
    """
    found = {}
    for name in sorted(names):
        wheel = EXTENSIONS[name]
        spec = importlib.util.find_spec(f"duckdb_extension_{wheel}")
        for place in (spec.submodule_search_locations or []) if spec else []:
            for file in Path(place).glob(f"extensions/*/{wheel}.duckdb_extension"):
                found[name] = str(file)
        if name not in found:
            package = f"duckdb-extension-{wheel.replace('_', '-')}"
            raise ActionFailed("extension_missing", f"install {package} on this worker: nothing is downloaded")
    return found
