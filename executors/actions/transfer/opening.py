"""A step's source and target, made of what it says, the credentials that it names and what it may touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from executors.actions.transfer.arguments import FILES, READING, TABLES, WRITING, Place, TransferArguments
from executors.auth import bound_credential
from executors.contract import ActionContext, ActionFailed, ActionRequest, Credential
from executors.stores.duckdb_store import MEMORY, DuckDbSink, DuckDbSource
from executors.stores.file_store import FileSink, FileSource, format_of
from executors.stores.gcs_store import gcs_object
from executors.stores.http_calls import CheckedCalls, headers_of
from executors.stores.http_store import HttpSink, HttpSource
from executors.stores.objects import ObjectSink, ObjectSource, StoredObject
from executors.stores.places import Places
from executors.stores.postgres_store import PostgresSink, PostgresSource
from executors.stores.postgres_target import ForbiddenTarget, Target, target_of
from executors.stores.rows import Sink, Source, quoted_table
from executors.stores.s3_store import s3_object
from executors.stores.sqlite_store import SqliteSink, SqliteSource
from executors.stores.watching import Watch


@dataclass(frozen=True, slots=True)
class Leave:
    """What the steps of a worker may touch."""

    forbidden: Sequence[ForbiddenTarget] = ()
    directories: Sequence[Path] = ()
    calls: CheckedCalls | None = None


class Opening:
    """The stores of one job, not yet opened. Raises: `ActionFailed` throughout."""

    def __init__(
        self, arguments: TransferArguments, request: ActionRequest, context: ActionContext, leave: Leave, watch: Watch
    ) -> None:
        self._arguments, self._request, self._context = arguments, request, context
        self._leave, self._watch = leave, watch
        self._places = Places(context.data_dir, leave.directories, request.execution_id)
        self._calls = leave.calls or CheckedCalls()

    def source(self) -> Source:
        """Where rows come from."""
        place, watch = self._arguments.source, self._watch
        match place.type:
            case "postgres":
                return PostgresSource(
                    self._target(READING), self._query(), self._arguments.params, watch, self._leave.forbidden
                )
            case "duckdb":
                return DuckDbSource(self._duckdb(place.database), self._query(), self._arguments.params, watch)
            case "sqlite":
                path, _ = self._places.sqlite_file(place.path or "")
                return SqliteSource(path, self._query(), self._arguments.params, watch)
            case "file":
                path = self._places.inside(place.path or "")
                if not path.is_file():
                    raise ActionFailed("file_error", f"{place.path!r} is no file")
                return FileSource(path, format_of(path.name, place.format), watch)
            case "s3" | "gcs":
                found = self._object(place, READING)
                return ObjectSource(found, format_of(found.key, place.format), self._places.work, watch)
            case "http":
                paths = {"path": place.path or "", "next_path": place.next_path or ""}
                return HttpSource(self._calls, place.url or "", watch, headers=self._headers(READING), **paths)

    def sink(self) -> Sink:
        """Where rows go to."""
        place, watch = self._arguments.target, self._watch
        table, mode, key = place.table or "", place.mode or "append", place.keys
        match place.type:
            case "postgres":
                target, forbidden = self._target(WRITING), self._leave.forbidden
                return PostgresSink(target, table, watch, mode=mode, key=key, forbidden=forbidden)
            case "duckdb":
                return DuckDbSink(self._duckdb(place.database), table, watch, mode=mode, key=key)
            case "sqlite":
                path, is_own = self._places.sqlite_file(place.path or "")
                if not is_own:
                    raise ActionFailed("path_not_allowed", f"{place.path!r} may be read, and not written")
                return SqliteSink(path, table, watch, mode=mode, key=key)
            case "file":
                path = self._places.own_file(place.path or "")
                return FileSink(path, format_of(path.name, place.format), watch)
            case "s3" | "gcs":
                found = self._object(place, WRITING)
                return ObjectSink(found, format_of(found.key, place.format), self._places.work, watch)
            case "http":
                return HttpSink(
                    self._calls,
                    place.url or "",
                    watch,
                    effect_key=self._request.effect_key,
                    headers=self._headers(WRITING),
                    method=place.method,
                )

    @property
    def is_sorted(self) -> bool:
        """Whether the source itself puts rows in the key's order."""
        source = self._arguments.source
        if source.type in FILES:
            return format_of(source.path or source.url or "", source.format) == "parquet"
        return source.type in TABLES

    def _query(self) -> str:
        table = self._arguments.source.table
        return self._arguments.query or f"SELECT * FROM {quoted_table(table or '')}"  # noqa: S608  (quoted)

    def _credential(self, side: str) -> Credential | None:
        auth = self._arguments.auth
        if not isinstance(auth, dict) or side not in auth:
            return None
        bound = bound_credential(auth, side, self._context)
        return bound.credential if bound else None

    def _needed(self, side: str) -> Credential:
        credential = self._credential(side)
        if credential is None:
            where = "source" if side == READING else "target"
            raise ActionFailed("arguments_invalid", f"{where}: name its credential with `auth`")
        return credential

    def _target(self, side: str) -> Target:
        target = target_of(self._needed(side), {})
        self._context.keep_secret(target.secrets.secret_texts())
        return target

    def _object(self, place: Place, side: str) -> StoredObject:
        url, credential = place.url or "", self._needed(side)
        if place.type == "gcs":
            return gcs_object(url, credential, self._calls, self._watch, self._context.keep_secret)
        return s3_object(url, credential, self._calls.policy, self._watch)

    def _headers(self, side: str) -> dict[str, str]:
        credential = self._credential(side)
        headers = headers_of(credential) if credential is not None else {}
        self._context.keep_secret(headers.values())
        return headers

    def _duckdb(self, named: str | None) -> str:
        if named == MEMORY:
            raise ActionFailed("arguments_invalid", "duckdb: there is nothing in a new database in memory")
        return self._places.database(named)
