"""Rows of a file: CSV with a line of names, a JSON list, JSON by lines, Parquet.

Knows the formats; where files may lie is the caller's matter. A file is written beside its place and put there whole.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TextIO, TypeAlias
from uuid import uuid4

from executors.contract import ActionFailed
from executors.stores.duckdb_store import lines_to_parquet, parquet_source
from executors.stores.files import put_in_place
from executors.stores.rows import Row, as_json, columns_of, to_line
from executors.stores.watching import Watch

Format: TypeAlias = Literal["csv", "json", "jsonl", "parquet"]
SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
READ_CHARACTERS: Final = 65_536
MAX_ROW_CHARACTERS: Final = 10_000_000
NOT_BLANK: Final = re.compile(r"[^ \t\r\n]")


def format_of(name: str, said: Format | None) -> Format:
    """The format that is said, or the one of the name's end. Raises: `ActionFailed` (`arguments_invalid`)."""
    found = said or SUFFIXES.get(Path(name).suffix.lower())
    if found is None:
        raise ActionFailed("arguments_invalid", f"{name!r} ends with no known format: say `format`")
    return found


class FileSource:
    """The rows of one file, in its order. Cells of CSV are texts, and an empty one is null."""

    def __init__(self, path: Path, format_: Format, watch: Watch) -> None:
        self._path, self._format, self._watch = path, format_, watch
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def batches(self, size: int, key: str | None = None, after: Any = None) -> Iterator[list[Row]]:
        """As `rows.Source` has it."""
        if self._format == "parquet":
            yield from self._stack.enter_context(parquet_source(self._path, self._watch)).batches(size, key, after)
            return
        try:
            file = self._stack.enter_context(self._path.open(encoding="utf-8-sig", newline=""))
            yield from _batched(self._rows(file), size, self._watch)
        except (OSError, ValueError, csv.Error, RecursionError) as error:
            raise ActionFailed(
                "file_error", f"{self._path.name}: {self._format} that cannot be read: {error}"
            ) from None

    def _rows(self, file: TextIO) -> Iterator[Row]:
        if self._format == "csv":
            lines = csv.DictReader(_lines(file), strict=True)
            names = lines.fieldnames or ()
            if len(set(names)) < len(names):
                raise ValueError("two columns have one name: give them others")
            for cells in lines:
                # What is behind the last name.
                if None in cells:
                    raise ValueError("a line has more cells than there are names")
                yield {name: cell or None for name, cell in cells.items()}
        elif self._format == "json":
            yield from map(_row, _Items(file))
        else:
            while line := file.readline(MAX_ROW_CHARACTERS):
                if line.strip():
                    yield _row(json.loads(line))


class FileSink:
    """A file of the rows, which replaces what was there at `commit`; after that nothing more is written."""

    def __init__(self, path: Path, format_: Format, watch: Watch) -> None:
        self._path, self._format, self._watch = path, format_, watch
        self._partial = path.with_name(f".{uuid4().hex}.partial")
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self._count = 0

    def __enter__(self) -> Self:
        with self._failing():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("x", encoding="utf-8", newline="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._partial.unlink(missing_ok=True)

    def begin(self) -> None:
        """Nothing: a file is always written anew."""

    def write(self, rows: Sequence[Row]) -> None:
        """As `rows.Sink` has it."""
        assert self._file is not None
        self._watch.check()
        with self._failing():
            if self._format == "csv":
                self._write_csv(self._file, rows)
            elif self._format == "json":
                for row in rows:
                    self._file.write(("[\n" if self._count == 0 else ",\n") + to_line(row))
                    self._count += 1
            else:
                self._file.writelines(to_line(row) + "\n" for row in rows)
                self._count += len(rows)

    def commit(self) -> None:
        """As `rows.Sink` has it."""
        assert self._file is not None
        with self._failing():
            if self._format == "json":
                self._file.write("\n]\n" if self._count else "[]\n")
            self._file.close()
            if self._format == "parquet":
                self._make_parquet()
            put_in_place(self._partial, self._path)

    def _make_parquet(self) -> None:
        if not self._count:
            raise ActionFailed("file_error", "a Parquet file needs a row: without one it would have no columns")
        lines = self._partial.with_suffix(".lines")
        self._partial.replace(lines)
        try:
            lines_to_parquet(lines, self._partial, self._watch)
        finally:
            lines.unlink(missing_ok=True)

    def _write_csv(self, file: TextIO, rows: Sequence[Row]) -> None:
        columns = columns_of(rows)
        if not self._columns:
            self._columns = columns
            csv.writer(file, lineterminator="\n").writerow(columns)
        elif more := [name for name in columns if name not in self._columns]:
            raise ActionFailed("file_error", f"the column {more[0]!r} comes up after the line of names was written")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([_csv_cell(row.get(name)) for name in self._columns] for row in rows)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ActionFailed("file_error", f"{self._path.name!r} cannot be written: {error.strerror}") from None


def _batched(rows: Iterable[Row], size: int, watch: Watch) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        # A row may be large, and a batch have many.
        watch.check()
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(file: TextIO) -> Iterator[str]:
    """The lines, none of them without an end. Raises: `ValueError`."""
    while line := file.readline(MAX_ROW_CHARACTERS):
        if len(line) == MAX_ROW_CHARACTERS:
            raise ValueError(f"a line has more than {MAX_ROW_CHARACTERS} characters")
        yield line


class _Items:
    """The items of a JSON list, with no more of it in memory than one of them and what was read beside it."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at = file, "", 0

    def __iter__(self) -> Iterator[Any]:
        decoder = json.JSONDecoder()
        if self._next() != "[":
            raise ValueError("it is no list of rows")
        if self._next() == "]":
            return
        self._at -= 1
        while True:
            yield self._item(decoder)
            found = self._next()
            if found == "]":
                return
            if found != ",":
                raise ValueError("it is no list of rows, or one without an end")

    def _next(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            found = NOT_BLANK.search(self._text, self._at)
            if found:
                self._at = found.end()
                return found[0]
            self._text, self._at = self._file.read(READ_CHARACTERS), 0
            if not self._text:
                return ""

    def _item(self, decoder: json.JSONDecoder) -> Any:
        if not self._next():
            raise ValueError("the list has no end")
        self._at -= 1
        while True:
            try:
                item, end = decoder.raw_decode(self._text, self._at)
            except ValueError:
                end = len(self._text)
            # A number could go on in what is not read yet.
            if end < len(self._text):
                self._at = end
                return item
            # As much again: an item is read from its beginning each time.
            more = self._file.read(max(READ_CHARACTERS, len(self._text) - self._at))
            if not more or len(self._text) - self._at > MAX_ROW_CHARACTERS:
                raise ValueError("it ends within a row, or a row is too large")
            self._text, self._at = self._text[self._at :] + more, 0


def _row(item: Any) -> Row:
    if not isinstance(item, dict):
        raise ValueError("a row is a map")
    return item


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool | dict | list):
        return to_line(value)
    return "" if value is None else as_json(value)
