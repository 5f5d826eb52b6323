"""The files of an execution: the folder that all of its steps read and write. Knows nothing of what is in them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from executors.contract import ActionFailed, ActionRequest

SAFE_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
SAFE_CHARACTERS: Final = 100


def place_name(request: ActionRequest) -> str:
    """A job's place in its execution as a part of a file's name: the same for every attempt, of no other job."""
    place = request.node_id.removeprefix(f"{request.execution_id}:")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", place)[:SAFE_CHARACTERS]
    return plain if place == plain else f"{plain}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def files_folder(data_dir: Path, execution_id: str) -> Path:
    """Where an execution's files lie. Raises: `ActionFailed` (`path_not_allowed`)."""
    if not SAFE_ID.fullmatch(execution_id):
        raise ActionFailed("path_not_allowed", "the execution id cannot be part of a file name")
    return (data_dir / "files" / execution_id).resolve()


def put_in_place(partial: Path, path: Path) -> None:
    """Give a file that was written beside its place its name. Raises: `OSError`.

    It is on the disk before: after a power cut the name is that of all of it, or of what was there.
    """
    _keep(partial)
    partial.replace(path)
    _keep(path.parent)


def _keep(path: Path) -> None:
    """See to it that a file, or the names in a folder, are on the disk. Raises: `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            put_in_place(partial, path)
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
        folder = files_folder(self._data_dir, self._execution_id)
        if "\x00" in name or Path(name).is_absolute() or not Path(name).name:
            raise ActionFailed("path_not_allowed", f"{name!r} is no name of a file in the execution's folder")
        path = (folder / name).resolve()
        if not path.is_relative_to(folder) or path == folder:
            raise ActionFailed("path_not_allowed", f"the file {name!r} is outside the execution's folder")
        return path
