"""The file of the execution that the rows of queries go into. Knows nothing of SQL."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

from executors.sandbox.rows import RowBudget, to_rows
from executors.stores.files import ExecutionFiles


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
