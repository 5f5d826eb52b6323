"""The files of an execution, and rows that go into one instead of a result.

Knows the folder that the execution's other steps read and write, too; nothing of SQL.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

from executors.contract import ActionFailed, ActionRequest
from executors.sandbox.rows import RowBudget, to_rows, with_rows

SAFE_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
SAFE_CHARACTERS: Final = 100


def place_name(request: ActionRequest) -> str:
    """A job's place in its execution as a part of a file's name: the same for every attempt, of no other job."""
    place = request.node_id.removeprefix(f"{request.execution_id}:")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", place)[:SAFE_CHARACTERS]
    return plain if place == plain else f"{plain}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


class ExecutionFiles:
    """`<data_dir>/files/<execution_id>/`, and nothing outside of it."""

    def __init__(self, data_dir: Path, execution_id: str) -> None:
        self._data_dir = data_dir
        self._execution_id = execution_id

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to write, which is there once the block ends well; then it replaces one of the same name.

        Raises: `ActionFailed` (`path_not_allowed`, `file_error`).
        """
        path = self._inside(name)
        partial = path.with_name(f".{uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("xb") as file:
                yield file
            partial.replace(path)
        except OSError as error:
            raise ActionFailed("file_error", f"{name!r} cannot be written: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        """A file to read. Raises: `ActionFailed` (`path_not_allowed`, `file_error`)."""
        path = self._inside(name)
        try:
            if not path.is_file():
                raise ActionFailed("file_error", f"the execution has no file {name!r}")
            file = path.open("rb")
        except OSError as error:
            raise ActionFailed("file_error", f"{name!r} cannot be read: {error.strerror}") from None
        with file:
            yield file

    def check(self, name: str) -> None:
        """Raises: `ActionFailed` (`path_not_allowed`) for a name that leads out of the folder."""
        self._inside(name)

    def _inside(self, name: str) -> Path:
        if not SAFE_ID.fullmatch(self._execution_id):
            raise ActionFailed("path_not_allowed", "the execution id cannot be part of a file name")
        folder = (self._data_dir / "files" / self._execution_id).resolve()
        if "\x00" in name or Path(name).is_absolute() or not Path(name).name:
            raise ActionFailed("path_not_allowed", f"{name!r} is no name of a file in the execution's folder")
        path = (folder / name).resolve()
        if not path.is_relative_to(folder) or path == folder:
            raise ActionFailed("path_not_allowed", f"the file {name!r} is outside the execution's folder")
        return path


class KeptRows:
    """Rows in memory, within the budget of a step."""

    def __init__(self, budget: RowBudget) -> None:
        self._budget = budget
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, columns: list[str], tuples: Sequence[Sequence[Any]]) -> None:
        """Keep some. Raises: `OutputTooLarge`."""
        self._columns = columns
        self._rows += to_rows(columns, tuples, self._budget)

    def result(self) -> dict[str, Any]:
        """`{status, rows, row_count, columns}`."""
        return with_rows(self._columns, self._rows)


class FiledRows:
    """Rows that go into a file as they come, one JSON map in each line; the file is made when the first come."""

    def __init__(self, files: ExecutionFiles, name: str) -> None:
        self._files, self._name = files, name
        self._columns: list[str] = []
        self._count = self._bytes = 0
        self._file: BinaryIO | None = None
        self._open_file = ExitStack()
        self._budget = RowBudget(sys.maxsize, sys.maxsize)

    @contextmanager
    def open(self) -> Iterator[FiledRows]:
        """Rows may come until the block ends. When it ends badly, or none has come, there is no file."""
        with self._open_file:
            yield self

    def add(self, columns: list[str], tuples: Sequence[Sequence[Any]]) -> None:
        """Write some."""
        if self._file is None:
            self._file = self._open_file.enter_context(self._files.writing(self._name))
        self._columns = columns
        for row in to_rows(columns, tuples, self._budget):
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            self._bytes += self._file.write(line)
            self._count += 1

    def result(self) -> dict[str, Any]:
        """`{status, row_count, columns, path, bytes}`."""
        told = {"row_count": self._count, "columns": self._columns, "path": self._name, "bytes": self._bytes}
        return {"status": "success", **told}
