"""The folder a child works in. What jobs put there is foreign: no link in it is ever followed from outside.

Between two jobs the child empties it itself (`slate`).
"""

from __future__ import annotations

import os
import shutil
import tempfile

NOBODY = 65534


class JobFolder:
    """An empty folder of one child, which belongs to `uid` when there is one."""

    def __init__(self, uid: int | None) -> None:
        self.path = tempfile.mkdtemp(prefix="noetl-job-")
        self.uid = uid if uid is None else give_folder(self.path, uid)

    def remove(self) -> None:
        """Remove it with all that is in it, as far as possible."""
        try:
            os.rmdir(self.path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)


def give_folder(path: str, uid: int) -> int:
    """Make a folder belong to `uid`; where a user namespace has no such uid, to `nobody`. Returns: to whom."""
    try:
        os.chown(path, uid, NOBODY)
        return uid
    except OSError:
        os.chown(path, NOBODY, NOBODY)
        return NOBODY
