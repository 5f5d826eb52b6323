"""The whole platform as a user starts it: `manage.py standalone` in a process and on a data folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.support import seeding
from tests.support.commands import Commands

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 90
STOP_SECONDS: Final = 40


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform."""

    data_dir: Path
    process: subprocess.Popen[str]
    ready: dict[str, Any]
    """What it printed when it was ready: url, admin, data_dir."""
    env: dict[str, str]
    commands: Commands

    def manage(self, *arguments: str, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another command on the same data folder. Raises: `AssertionError` when it fails and `check` is set."""
        result = self.commands.run(arguments, timeout)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def children(self) -> list[psutil.Process]:
        """All processes below the supervisor."""
        return psutil.Process(self.process.pid).children(recursive=True)


def environment(data_dir: Path, **extra: str) -> dict[str, str]:
    """The environment of a platform: nothing of the test run's own settings."""
    mine = ("NOETL_", "DJANGO_", "DATABASE_", "REDIS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return {**kept, "NOETL_DATA_DIR": str(data_dir), **extra}


@contextmanager
def running_platform(data_dir: Path, *arguments: str, **extra: str) -> Iterator[Platform]:
    """Start a platform, wait until it is ready, and stop it cleanly. Raises: `AssertionError` when it does not.

    A data folder with nothing in it gets a database first: its very first start is what `first_platform` is for.
    """
    if "DATABASE_URL" not in extra:
        seeding.seed(data_dir, environment(data_dir))
    with first_platform(data_dir, *arguments, **extra) as running:
        yield running


@contextmanager
def first_platform(data_dir: Path, *arguments: str, **extra: str) -> Iterator[Platform]:
    """The same, in a data folder as it is."""
    env = environment(data_dir, **extra)
    command = [sys.executable, str(ROOT / "manage.py"), "standalone", "--json", "--port", "0", *arguments]
    commands = Commands(env)
    with (data_dir / "standalone.err").open("w") as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield Platform(data_dir, process, _wait_until_ready(process, data_dir), env, commands)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS) == 0, (data_dir / "standalone.err").read_text()
    finally:
        commands.close()
        if process.poll() is None:
            _kill_all(process)
        process.wait()


def _kill_all(process: subprocess.Popen[str]) -> None:
    """End a platform that did not end by itself, before its folder is removed."""
    everything = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs(everything, STOP_SECONDS)
    for left in [*alive, psutil.Process(process.pid)]:
        with suppress(psutil.NoSuchProcess):
            left.kill()


@contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A data folder with a short path, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-e2e-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A platform for the tests of one module; it must stop cleanly."""
    with temporary_data_dir() as data_dir, running_platform(data_dir) as running:
        yield running


def _wait_until_ready(process: subprocess.Popen[str], data_dir: Path) -> dict[str, Any]:
    assert process.stdout is not None
    # It prints one line, or ends; its own time limits keep this from waiting for ever.
    line = process.stdout.readline()
    assert line, (data_dir / "standalone.err").read_text()
    ready: dict[str, Any] = json.loads(line)
    return ready
