"""Scripts that are files of the worker: inside one folder, wherever links lead."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from executors.contract import ActionFailed
from executors.scripts.places import MAX_BYTES


def read_file(folder: Path | None, name: str) -> bytes:
    """The file of this name below the folder, of one more byte than a script may have at most.

    Raises: `ActionFailed` (`script_refused`, `script_unavailable`).
    """
    if folder is None:
        message = "this worker reads no script from files: NOETL_PYTHON_SCRIPTS_DIR names no folder"
        raise ActionFailed("script_refused", message)
    outside = ActionFailed("script_refused", f"the script {name} is not inside the folder of this worker's scripts")
    try:
        root = folder.resolve(strict=True)
        if not (place := (root / name).resolve()).is_relative_to(root):
            raise outside
        # A link that was put there since is not followed, and a pipe not waited for.
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "there is no such file"
        raise ActionFailed("script_unavailable", f"the script {name} cannot be read: {why}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ActionFailed("script_unavailable", f"the script {name} is no file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
