"""Copies of the project's tree, to change."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.platform import ROOT

LEFT_OUT: Final = (".git", ".venv", "data", "staticfiles", "__pycache__", ".*_cache", ".hypothesis", ".faults")


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the tree, removed afterwards."""
    # A short path: sockets are kept below it.
    with tempfile.TemporaryDirectory(prefix="noetl-tree-", dir="/tmp") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        yield tree
