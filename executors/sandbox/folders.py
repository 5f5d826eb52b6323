"""The folders children work in. What jobs put there is foreign: no link in it is ever followed from outside.

They lie in a folder of the worker's, which no job may write to, and which is locked for as long as the worker lives:
`sweep` removes what a killed one has left. Between two jobs the child empties its own itself (`slate`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from typing import Final

NOBODY = 65534
PREFIX: Final = "noetl-jobs-"
"""Of the folders in the folder for temporary files."""


class JobFolder:
    """An empty folder of one child, which belongs to `uid` when there is one."""

    def __init__(self, inside: str, uid: int | None) -> None:
        self.path = tempfile.mkdtemp(prefix="job-", dir=inside)
        self.uid = uid if uid is None else give_folder(self.path, uid)

    def remove(self) -> None:
        """Remove it with all that is in it, as far as possible."""
        try:
            os.rmdir(self.path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)


class JobFolders:
    """Makes folders in one that is this process's alone, and is there from the first of them on."""

    def __init__(self) -> None:
        self._path, self._lock = "", -1

    def make(self, uid: int | None) -> JobFolder:
        """A new one. Raises: `OSError`."""
        if not os.path.isdir(self._path):
            # There was none yet, or it was cleared away: some machines do that to temporary files.
            self.leave()
            self._path, self._lock = _make_locked()
        return JobFolder(self._path, uid)

    def leave(self) -> None:
        """Let go of it, as after a fork: it is the other process's."""
        if self._lock >= 0:
            os.close(self._lock)
        self._path, self._lock = "", -1

    def close(self) -> None:
        """Remove it, once its folders were."""
        with suppress(OSError):
            os.rmdir(self._path)
        self.leave()


def sweep() -> int:
    """Remove what processes have left that are gone. Returns: how many folders."""
    with os.scandir(tempfile.gettempdir()) as entries:
        paths = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
    return sum(map(_remove_if_left, paths))


def give_folder(path: str, uid: int) -> int:
    """Make a folder belong to `uid`; where a user namespace has no such uid, to `nobody`. Returns: to whom."""
    try:
        os.chown(path, uid, NOBODY)
        return uid
    except OSError:
        os.chown(path, NOBODY, NOBODY)
        return NOBODY


def _make_locked() -> tuple[str, int]:
    """A new folder, and the descriptor by which it is locked: the kernel unlocks it when the process has ended."""
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX)
        # Somebody who sweeps may be quicker with a folder that nobody has locked yet.
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(path)
            if os.path.isdir(path):
                # Children with a uid of their own pass through, and see nothing of one another.
                os.chmod(path, 0o711)  # noqa: S103  (see above)
                return path, lock
            os.close(lock)


def _remove_if_left(path: str) -> bool:
    try:
        lock = _lock(path)
    except OSError:
        # It is gone, in use, a link, or somebody else's.
        return False
    try:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
    return True


def _lock(path: str) -> int:
    """A descriptor of the folder, which has its lock. Raises: `OSError`, `BlockingIOError` when it is in use."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError("somebody else's")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
