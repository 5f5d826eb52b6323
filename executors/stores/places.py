"""Where a step's files are: its database, its own folder, and the files of others that it may read.

Knows the data folder's layout: `duckdb/ID.duckdb` is an execution's own database, `databases/` has those that steps
name, `files/ID/` is what an execution may write to. Nothing else of the data folder is a step's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from executors.contract import ActionFailed
from executors.stores.files import files_folder

MEMORY_DATABASE: Final = ":memory:"
ROWS: Final = "rows"
MOST_ENTRIES: Final = 100_000
"""In a folder that a step names in `read`: each is looked at."""


class Places:
    """The files of one execution below one data folder. Raises: `ActionFailed` (`path_not_allowed`) throughout."""

    def __init__(self, data_dir: Path, allowed: Iterable[Path], execution_id: str) -> None:
        self.files = files_folder(data_dir, execution_id)
        data_dir = data_dir.resolve()
        self._data_dir = data_dir
        self._databases = data_dir / "databases"
        self._execution_id = execution_id
        self.work = data_dir / "tmp"
        self.roots = [*allowed, self.files, self._databases]
        for folder in (self.files, self.work):
            folder.mkdir(parents=True, exist_ok=True)

    def database(self, named: str | None) -> str:
        """The file to open."""
        if named == MEMORY_DATABASE:
            return named
        if named is None:
            path = self._data_dir / "duckdb" / f"{self._execution_id}.duckdb"
        else:
            found = _joined(self._databases, named)
            if found is None or found == self._databases:
                raise ActionFailed("path_not_allowed", f"the database {named!r} is outside of the folder for databases")
            path = found
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def readable(self, named: Iterable[str]) -> dict[str, Any]:
        """Folders and files that DuckDB may read besides the own folder: `directories`, `paths`, `search`."""
        directories: list[str] = []
        paths: list[str] = []
        for name in named:
            path = self.inside(name)
            # The text as written too: DuckDB compares what the SQL says, not what it resolves to.
            spellings = {str(path), name} if Path(name).is_absolute() and ".." not in name else {str(path)}
            if path.is_dir():
                self._refuse_ways_out(name, path)
                directories += [f"{spelling.rstrip('/')}/" for spelling in sorted(spellings)]
            else:
                paths += sorted(spellings)
        # A relative name in the SQL is found below the same roots as one in `read`.
        return {"directories": directories, "paths": paths, "search": [str(root) for root in self.roots]}

    def inside(self, name: str) -> Path:
        """The real path of `name`, which must exist below one of the roots."""
        for root in self.roots:
            path = _joined(root, name)
            if path is not None and path.exists():
                return path
        raise ActionFailed("path_not_allowed", f"{name!r} does not exist inside the allowed folders")

    def own_file(self, name: str) -> Path:
        """The place of a file in the own folder, which is written: it need not exist."""
        try:
            path = _joined(self.files, name)
        except (OSError, RuntimeError):
            # Links that go round.
            path = None
        if path is None or path == self.files:
            raise ActionFailed("path_not_allowed", f"{name!r} is no name of a file in the execution's folder")
        return path

    def sqlite_file(self, name: str) -> tuple[Path, bool]:
        """The real path of a SQLite file, and whether steps may write to it: in the own folder, or among the databases.

        One that is nowhere is made in the own folder.
        """
        own = [path for root in (self.files, self._databases) if (path := _joined(root, name)) is not None]
        for path in own:
            if path.is_file():
                return path, True
        if own and not any((root / name).exists() for root in self.roots):
            return own[0], True
        return self.inside(name), False

    def rows_file(self, name: str) -> str:
        """The file of rows that an earlier step of this execution left, by the name in its result."""
        path = _joined(self.files, name)
        if path is None or path.suffix != ".parquet" or not path.is_file():
            raise ActionFailed("path_not_allowed", f"inputs: there is no file of rows {name!r} in this execution")
        return str(path)

    def _refuse_ways_out(self, name: str, folder: Path) -> None:
        """A link in a folder would lead DuckDB to wherever it points."""
        for count, entry in enumerate(_links(folder)):
            if count > MOST_ENTRIES:
                raise ActionFailed("path_not_allowed", f"read: {name!r} has too many files: name those that are needed")
            if entry is not None and not any(entry.is_relative_to(root) for root in self.roots):
                raise ActionFailed("path_not_allowed", f"read: {name!r} holds a link out of the allowed folders")


def _joined(root: Path, name: str) -> Path | None:
    """The real path of a name below a folder; None when it leads out of it."""
    if "\x00" in name:
        return None
    path = (root / name).resolve()
    return path if path.is_relative_to(root) else None


def _links(folder: Path) -> Iterator[Path | None]:
    """For each entry below a folder, where it leads when it is a link, else None. Links are not followed."""
    for place, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = Path(place) / entry
            yield path.resolve() if path.is_symlink() else None
