"""What the storages of files have in common: the formats, what is rows, and where a job's rows go.

An `overwrite` writes the named file anew. An `append` gives each job a file of its own, named after its effect key:
jobs come to one place side by side, and one that runs again replaces what it wrote before.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.storage import SaveContext, Storage
from executors.contract import ActionFailed
from executors.stores.file_store import SUFFIXES, FileSink, Format, format_of
from executors.stores.watching import Watch

UNSAFE: Final = re.compile(r"[^A-Za-z0-9_]+")
READABLE_CHARACTERS: Final = 80
DIGEST_CHARACTERS: Final = 16
TABLES: Final = ("csv", "parquet")
"""Formats that have columns."""

Write = Callable[[Path], None]


class FilesStorage(Storage):
    """A storage of files; a subclass says where they are."""

    modes: ClassVar[tuple[str, ...]] = ("append", "overwrite")
    place: ClassVar[str]
    """What the result calls the place of a file."""

    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        """`{saved: NAME, PLACE, rows}`: where this job's rows are (null: there were none to append), and how many."""
        if spec.mode not in self.modes:
            message = f"the storage {self.name} has no mode {spec.mode}: it appends or overwrites"
            raise ActionFailed("arguments_invalid", message)
        place = self._named(spec)
        format_ = format_of(place, spec.format)
        if spec.mode == "append":
            if not rows:
                return {"saved": self.name, self.place: None, "rows": 0}
            place = part_of(place, format_, context.effect_key)
        _check_rows(rows, format_)
        watch = Watch(context.deadline, context.lent.cancelled)
        self._put(place, _writer(rows, format_, spec, watch), spec, context, watch)
        return {"saved": self.name, self.place: place, "rows": len(rows)}

    @abstractmethod
    def _named(self, spec: SaveArguments) -> str:
        """The place that `spec` names. Raises: `ActionFailed` (`arguments_invalid`)."""

    @abstractmethod
    def _put(self, place: str, write: Write, spec: SaveArguments, context: SaveContext, watch: Watch) -> None:
        """Put a file there, whole or not at all; `write` writes it. Raises: `ActionFailed`."""


def part_of(place: str, format_: Format, effect_key: str) -> str:
    """Where the rows of one job go that are appended: of `out/orders.csv` it is `out/orders/KEY.csv`."""
    suffix = PurePosixPath(place).suffix
    if suffix.lower() not in SUFFIXES:
        suffix = ""
    folder = place.removesuffix(suffix).rstrip("/")
    # To be read by people; what tells it from all others is the digest.
    readable = UNSAFE.sub("-", effect_key).strip("-")[-READABLE_CHARACTERS:]
    digest = sha256(effect_key.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return f"{folder}/{readable}-{digest}{suffix or '.' + format_}"


def _writer(rows: Sequence[Any], format_: Format, spec: SaveArguments, watch: Watch) -> Write:
    if format_ == "json" and not spec.of_items and not isinstance(spec.data, list):
        # A document of its own is a line of JSON.
        format_ = "jsonl"

    def write(path: Path) -> None:
        with FileSink(path, format_, watch) as sink:
            sink.begin()
            if rows:
                sink.write(rows)
            sink.commit()

    return write


def _check_rows(rows: Sequence[Any], format_: Format) -> None:
    """Raises: `ActionFailed` (`arguments_invalid`), without quoting what was given."""
    if format_ not in TABLES:
        return
    if not rows and format_ == "parquet":
        raise ActionFailed("arguments_invalid", "data: a Parquet file needs a row: without one it has no columns")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not row:
            message = f"data: the row at index {number} is no map of columns and values, which {format_} needs"
            raise ActionFailed("arguments_invalid", message)
