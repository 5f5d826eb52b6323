"""The `transfer` kind: batches from a source to a sink, and the note by which it goes on.

Knows keys, notes and chunks; nothing of any store.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self, cast

from executors import contract
from executors.actions.transfer.arguments import TABLES, TransferArguments
from executors.actions.transfer.opening import Leave, Opening
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.sandbox.sparing import Sparing
from executors.stores.http_calls import CheckedCalls
from executors.stores.http_store import MAX_PAGE_BYTES
from executors.stores.postgres_target import forbidden_targets
from executors.stores.rows import NotingSink, Row, Sink, as_json, key_from_note, key_to_note
from executors.stores.watching import Watch

WHOLE_NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,17})")
EXAMPLE: Final = """\
apiVersion: noetl.io/v1
kind: Playbook
name: orders_to_lake
path: examples/orders_to_lake
workload: {since: "2024-05-01"}
workflow:
  - step: start
    type: transfer
    source:
      type: postgres
      auth: shop
      query: SELECT id, total, day FROM orders WHERE day >= :since
    params: {since: "{{ since }}"}
    target: {type: postgres, auth: lake, table: raw.orders, mode: upsert, key: order_id}
    mapping: {order_id: id, total: total, day: day}
    key: id
    retry: 3
    next: end
  - step: end
    result: "{{ start.rows }}"
"""


@dataclass(slots=True)
class Progress:
    """How far a transfer is, as its note says. `key` is the last row's, in the form of `key_to_note`."""

    rows: int = 0
    chunks: int = 0
    key: list[str] | None = None
    done: bool = False


class TransferAction(contract.ActionKind):
    """Moves rows from one store to another, a chunk at a time: databases, files, buckets, addresses.

    A table gets all rows or none; with `key` each chunk counts, and a repeated attempt goes on behind the last one.
    """

    name: ClassVar[str] = "transfer"
    Arguments: ClassVar[type[contract.Arguments]] = TransferArguments
    result: ClassVar[str] = (
        "`{rows, chunks, seconds, resumed_from}`: rows and chunks of all attempts, the seconds of this one, and the key"
        " behind which it went on (null: it began)."
    )
    errors: ClassVar[Mapping[str, str]] = {
        "source_failed": "the source refused the query, or gave no rows",
        "target_failed": "the target refused rows; what was committed before stays",
        "key_invalid": "the key is not there, is null or twice, or the rows of a file are not in its order",
        "mapping_invalid": "the mapping names a column that the source does not have",
        "transfer_overtaken": "another attempt of this step went on meanwhile",
        "target_forbidden": "the connection leads to the platform's own database or role",
        "postgres_connection": "no connection",
        "database_locked": "another process holds the DuckDB file",
        "database_unreadable": "the file is no database, or the step has it open already",
        "file_error": "a file is not there, or is not of its format",
        "path_not_allowed": "a file outside of the folders that the step may use",
        "http_connection": "no connection, or a refused address",
        "output_too_large": "a page is larger than 10 MB",
        "extra_missing": "this worker has no boto3",
        "token_refused": "the service account was given no token",
        "auth_invalid": "`auth` names no credential",
        "credential_invalid": "the credential lacks a field, or is of another type",
        "timeout": "the step's time is over; the statement is stopped on the server, too",
    }
    example: ClassVar[str] = EXAMPLE

    def __init__(self, leave: Leave | None = None) -> None:
        self._leave = leave or Leave()

    @classmethod
    def build(cls, settings: Any) -> Self:
        """With the databases, folders and networks of the settings."""
        return cls(
            Leave(
                forbidden=forbidden_targets(settings),
                directories=[
                    Path(folder).resolve() for folder in getattr(settings, "NOETL_DUCKDB_ALLOWED_DIRECTORIES", ())
                ],
                calls=CheckedCalls(getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ()), MAX_PAGE_BYTES),
            )
        )

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """`{rows, chunks, seconds, resumed_from}`. Raises: `ActionFailed`."""
        started = time.monotonic()
        watch = Watch(started + request.timeout_seconds, context.cancelled)
        arguments = TransferArguments.check(request.arguments)
        opening = Opening(arguments, request, context, self._leave, watch)
        with opening.source() as source, opening.sink() as sink:
            # Only a table can tell what it has got.
            notes = _Notes(cast(NotingSink, sink), request.effect_key) if arguments.target.type in TABLES else None
            progress = notes.read() if notes else Progress()
            after = None if progress.key is None else key_from_note(progress.key)
            context.log(_begins(arguments, progress))
            if not progress.done:
                if notes:
                    # First of all: whoever was overtaken finds it out here, and not by a row that is there already.
                    notes.write(progress)
                if progress.key is None:
                    sink.begin()
                behind = _Behind(arguments.key, after, is_sorted=opening.is_sorted)
                batches = source.batches(arguments.chunk_size, arguments.key, after)
                told = _telling(behind.rows(batches), progress, Sparing(context.log, first=0))
                _move(told, sink, notes, progress, arguments)
        seconds = round(time.monotonic() - started, 3)
        context.log(f"{_moved(progress)} after {seconds:,} s")
        result = {"rows": progress.rows, "chunks": progress.chunks, "seconds": seconds}
        return {**result, "resumed_from": as_json(after)}


def _begins(arguments: TransferArguments, progress: Progress) -> str:
    between = f"from {arguments.source.type} to {arguments.target.type}"
    return f"{between}: {_moved(progress)} are there already" if progress.rows else between


def _telling(batches: Iterator[list[Row]], progress: Progress, told: Sparing) -> Iterator[list[Row]]:
    """The batches; how far it is is told behind each, now and then."""
    for batch in batches:
        yield batch
        told.tell(f"{_moved(progress)} so far")


def _moved(progress: Progress) -> str:
    return f"{progress.rows:,} rows in {progress.chunks:,} chunks"


def _move(
    batches: Iterator[list[Row]], sink: Sink, notes: _Notes | None, progress: Progress, arguments: TransferArguments
) -> None:
    for batch in batches:
        progress.rows += len(batch)
        progress.chunks += 1
        if progress.chunks == 1:
            _check_mapping(batch, arguments.pairs)
        if notes is None or arguments.key is None:
            sink.write(_mapped(batch, arguments.pairs))
            continue
        progress.key = key_to_note(batch[-1][arguments.key])
        notes.write(progress)
        sink.write(_mapped(batch, arguments.pairs))
        sink.commit()
    progress.done = True
    if notes is not None:
        notes.write(progress)
    sink.commit()


class _Notes:
    """The note of one step in its target."""

    def __init__(self, sink: NotingSink, effect_key: str) -> None:
        self._sink, self._name = sink, f"transfer:{effect_key}"
        self._last: str | None = None

    def read(self) -> Progress:
        self._last = self._sink.read_note(self._name)
        return Progress() if self._last is None else Progress(**json.loads(self._last))

    def write(self, progress: Progress) -> None:
        """In the transaction of the rows. Raises: `ActionFailed` (`transfer_overtaken`)."""
        note = json.dumps(asdict(progress))
        if not self._sink.swap_note(self._name, self._last, note):
            raise ActionFailed("transfer_overtaken", "another attempt of this step went on meanwhile: this one ends")
        self._last = note


class _Behind:
    """Lets rows through whose key is behind the last one, and sees that the key is one."""

    def __init__(self, key: str | None, after: Any, *, is_sorted: bool) -> None:
        self._key, self._last, self._is_sorted = key, after, is_sorted
        self._skips = after

    def rows(self, batches: Iterator[list[Row]]) -> Iterator[list[Row]]:
        """The batches; none of them is empty. Raises: `ActionFailed` (`key_invalid`)."""
        for batch in batches:
            left = batch if self._key is None else [row for row in batch if self._is_new(row, self._key)]
            if left:
                yield left

    def _is_new(self, row: Row, key: str) -> bool:
        value = row.get(key)
        if value is None:
            raise ActionFailed("key_invalid", f"a row of the source has no {key!r}, which is the key")
        if not self._is_sorted and isinstance(value, str) and WHOLE_NUMBER.fullmatch(value):
            # CSV has texts alone; as such 10 would come before 9.
            value = row[key] = int(value)
        try:
            if self._skips is not None and not self._is_sorted and value <= self._skips:
                return False
            # How texts are sorted is the database's matter.
            follows = value != self._last if self._is_sorted and isinstance(value, str) else value > self._last
        except TypeError:
            follows = self._last is None
        if not follows:
            advice = "it must be unique" if self._is_sorted else "it must be unique, and the rows in its order"
            raise ActionFailed("key_invalid", f"the key {key!r} does not rise from row to row: {advice}")
        self._last = value
        return True


def _check_mapping(batch: list[Row], pairs: Mapping[str, str] | None) -> None:
    """By the first rows: what later ones lack is null, in whatever chunk they come. Raises: `ActionFailed`."""
    there = set().union(*batch)
    if missing := [name for name in (pairs or {}).values() if name not in there]:
        raise ActionFailed("mapping_invalid", f"mapping: the source has no column {missing[0]!r}")


def _mapped(batch: list[Row], pairs: Mapping[str, str] | None) -> list[Row]:
    if pairs is None:
        return batch
    return [{to: row.get(source) for to, source in pairs.items()} for row in batch]
