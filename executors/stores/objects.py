"""Rows of an object in a bucket, in one of the formats of files, whoever keeps the bucket.

An object goes through a file of the worker, so that nothing is in memory whole.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from executors.stores.file_store import FileSink, FileSource, Format
from executors.stores.rows import Row
from executors.stores.watching import Watch


class StoredObject(Protocol):
    """One object and what opens it."""

    @property
    def key(self) -> str:
        """Its name in the bucket."""

    def download(self, path: Path) -> None:
        """Into a file. Raises: `ActionFailed` (`source_failed`)."""

    def upload(self, path: Path) -> None:
        """Out of a file; it is there whole or not at all. Raises: `ActionFailed` (`target_failed`)."""


@contextlib.contextmanager
def passing_file(work: Path) -> Iterator[Path]:
    """The place of a file that an object goes through, below the folder `work`; it is gone afterwards."""
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="object-", dir=work) as folder:
        yield Path(folder) / "rows"


class ObjectSource:
    """The rows of one object, in its order. `work` is a folder for the file that it goes through."""

    def __init__(self, place: StoredObject, format_: Format, work: Path, watch: Watch) -> None:
        self._place, self._format, self._work, self._watch = place, format_, work, watch
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._path = self._stack.enter_context(passing_file(self._work))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def batches(self, size: int, key: str | None = None, after: object = None) -> Iterator[list[Row]]:
        """As `rows.Source` has it."""
        self._place.download(self._path)
        with FileSource(self._path, self._format, self._watch) as source:
            yield from source.batches(size, key, after)


class ObjectSink:
    """An object of the rows, which is there with `commit`; after that nothing more is written."""

    def __init__(self, place: StoredObject, format_: Format, work: Path, watch: Watch) -> None:
        self._place, self._format, self._work, self._watch = place, format_, work, watch
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._path = self._stack.enter_context(passing_file(self._work))
        self._file = self._stack.enter_context(FileSink(self._path, self._format, self._watch))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def begin(self) -> None:
        """Nothing: an object is always written anew."""

    def write(self, rows: Sequence[Row]) -> None:
        """As `rows.Sink` has it."""
        self._file.write(rows)

    def commit(self) -> None:
        """As `rows.Sink` has it."""
        self._file.commit()
        self._place.upload(self._path)
