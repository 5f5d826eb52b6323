"""pytest in a process of its own, on a data folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.settings import FOLDER


def run_pytest(tree: Path, arguments: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run tests of a tree. Raises: `subprocess.TimeoutExpired` after so many seconds.

    The caller's data folder is not handed on: these tests would remove it when they end.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    env = {name: value for name, value in os.environ.items() if name != FOLDER}
    return subprocess.run(command, check=False, cwd=tree, env=env, capture_output=True, text=True, timeout=seconds)
