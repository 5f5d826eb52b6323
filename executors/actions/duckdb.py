"""The `duckdb` kind: runs SQL on a DuckDB file in a killable child.

Knows which files a step may touch and where an execution's database lies; running the SQL is the sandbox
program's matter. SQL is confined by DuckDB's settings; the child keeps the worker's uid to write there.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.config import JsonDict

from executors import contract
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.sandbox.host import Limits, Sandbox

SQL: JsonDict = {"x-noetl-template": "sql"}
MEMORY_DATABASE = ":memory:"
# Not postgres_scanner: its postgres_scan() connects anywhere, even with enable_external_access off.
EXTENSIONS = ("httpfs",)
LOCK_WAIT_SECONDS = 30.0
SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class DuckdbArguments(contract.Arguments):
    """SQL under one of three names; `read` names files and folders it may touch besides the step's own."""

    command: str | list[str] | None = Field(None, json_schema_extra=SQL)
    commands: str | list[str] | None = Field(None, json_schema_extra=SQL)
    query: str | list[str] | None = Field(None, json_schema_extra=SQL)
    database: str | None = None
    read: list[str] = Field(default_factory=list)
    params: dict[str, Any] = Field(default_factory=dict)
    on_statement_error: Literal["stop", "continue"] = "stop"

    @model_validator(mode="after")
    def _one_sql(self) -> DuckdbArguments:
        if sum(given is not None for given in (self.command, self.commands, self.query)) != 1:
            raise ValueError("give exactly one of command, commands and query")
        return self

    def statements(self) -> list[str]:
        given = self.command or self.commands or self.query or ""
        return [given] if isinstance(given, str) else given


class DuckdbAction(contract.ActionKind):
    """Runs statements in order and stops at the first error, unless told to go on."""

    name: ClassVar[str] = "duckdb"
    Arguments: ClassVar[type[contract.Arguments]] = DuckdbArguments

    def __init__(
        self, allowed_directories: Iterable[Path] = (), *, memory_limit: str = "1GB", threads: int = 2
    ) -> None:
        self._allowed_directories = [path.resolve() for path in allowed_directories]
        self._memory_limit = memory_limit
        self._threads = threads
        # Memory is bounded by DuckDB's own limit: its address space is much larger than what it uses.
        limits = Limits(memory_bytes=0, file_bytes=0, open_files=1024)
        self._sandbox = Sandbox("duckdb", limits, drop_privileges=False)

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the folders that the settings allow to be read."""
        return cls(Path(folder) for folder in getattr(settings, "NOETL_DUCKDB_ALLOWED_DIRECTORIES", ()))

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """`{"command_<i>": {...}}`.

        Raises: `ActionFailed` (`sql_error`, `path_not_allowed`, `database_locked`, or a code of
        `JobFailure`); its `data` holds the results so far.
        """
        arguments = DuckdbArguments.check(request.arguments)
        data_dir = context.data_dir.resolve()
        if not SAFE_NAME.fullmatch(request.execution_id):
            raise ActionFailed("path_not_allowed", "the execution id cannot be part of a file name")
        files = data_dir / "files" / request.execution_id
        payload = {
            "database": self._database(arguments.database, data_dir, request.execution_id),
            "statements": arguments.statements(),
            "params": arguments.params,
            "goes_on": arguments.on_statement_error == "continue",
            "threads": self._threads,
            "memory_limit": self._memory_limit,
            "extensions": wheel_extensions(),
            "extension_directory": str(data_dir / "duckdb_extensions"),
            "temp_directory": str(data_dir / "tmp" / request.execution_id),
            "lock_wait_seconds": min(LOCK_WAIT_SECONDS, request.timeout_seconds),
            **self._readable(arguments.read, files, data_dir),
        }
        for folder in (files, data_dir / "duckdb_extensions"):
            folder.mkdir(parents=True, exist_ok=True)
        result = self._sandbox.run(
            payload, timeout_seconds=request.timeout_seconds, cancelled=context.cancelled, workdir=files
        )
        if result.failure is not None:
            raise ActionFailed(result.failure.code, result.failure.message, data=result.failure.data)
        return result.value

    def close(self) -> None:
        self._sandbox.close()

    def _database(self, named: str | None, data_dir: Path, execution_id: str) -> str:
        """The file to open. Raises: `ActionFailed` when it is not inside the data folder."""
        if named == MEMORY_DATABASE:
            return named
        path = (data_dir / (named or f"duckdb/{execution_id}.duckdb")).resolve()
        if "\x00" in str(path) or not path.is_relative_to(data_dir) or path == data_dir:
            raise ActionFailed("path_not_allowed", f"the database {named!r} is outside the data folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def _readable(self, named: list[str], files: Path, data_dir: Path) -> dict[str, list[str]]:
        """What DuckDB may touch: the execution's folder, and what the step names inside the allowed ones."""
        roots = [*self._allowed_directories, data_dir]
        directories, paths = [f"{files}/"], []
        for name in named:
            path = _inside(name, roots)
            # The text as written too: DuckDB compares what the SQL says, not what it resolves to.
            spellings = {str(path), name} if Path(name).is_absolute() and ".." not in name else {str(path)}
            if path.is_dir():
                directories += [f"{spelling.rstrip('/')}/" for spelling in sorted(spellings)]
            else:
                paths += sorted(spellings)
        # A relative name in the SQL is found below the same roots as one in `read`.
        return {"allowed_directories": directories, "allowed_paths": paths, "search": [str(root) for root in roots]}


def _inside(name: str, roots: list[Path]) -> Path:
    """The real path of `name`, which must exist below one of `roots`. Raises: `ActionFailed`."""
    for root in roots:
        path = (root / name).resolve()
        if path.is_relative_to(root) and path.exists():
            return path
    raise ActionFailed("path_not_allowed", f"read: {name!r} does not exist inside the allowed folders")


def wheel_extensions() -> dict[str, str]:
    """Extensions that came with the installation: name -> file. Found without importing anything."""
    found = {}
    for name in EXTENSIONS:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        for place in (spec.submodule_search_locations or []) if spec else []:
            for file in Path(place).glob(f"extensions/*/{name}.duckdb_extension"):
                found[name] = str(file)
    return found
