"""A reply that becomes a file of its execution. Knows files; nothing of how the reply was got."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from executors.contract import ActionFailed
from executors.stores.files import put_in_place


def save(pieces: Iterable[bytes], folder: Path, name: str) -> dict[str, Any]:
    """Write the pieces to a file of this name, whole or not at all. Returns: `{path, bytes, sha256}`.

    Raises: what the pieces raise; `ActionFailed` (`file_error`) when the file cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".download-", dir=folder)
    except OSError as error:
        raise _unwritten(error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                _write(file.write, piece)
            _write(file.flush)
        target = folder / name
        _write(put_in_place, Path(temporary), target)
    except BaseException:
        # Whatever it was, half a file is none.
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    return {"path": str(target), "bytes": size, "sha256": digest.hexdigest()}


def _write(act: Any, *arguments: Any) -> None:
    try:
        act(*arguments)
    except OSError as error:
        raise _unwritten(error) from None


def _unwritten(error: OSError) -> ActionFailed:
    # The network's errors are of the same class, and of another meaning.
    return ActionFailed("file_error", f"the reply cannot be written to a file: {error.strerror}")
