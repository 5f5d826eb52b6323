"""A platform of the benchmark's own: `manage.py standalone` on a temporary data folder, as a user starts it.

Knows processes; what is measured on them is the measures' business.
"""

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
from typing import Final

import psutil

from noetl_site import embedded

ROOT: Final = Path(__file__).resolve().parents[1]
STOP_SECONDS: Final = 60
WORKERS: Final = 2
"""Of the platform and of every peer."""


class PlatformFailed(Exception):
    """The platform did not start or stop as it should."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform."""

    data_dir: Path
    process: psutil.Popen
    url: str
    token: str

    def manage(self, *words: str) -> None:
        """A management command on its data. Raises: `PlatformFailed`."""
        command = [sys.executable, str(ROOT / "manage.py"), *words]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(self.data_dir), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise PlatformFailed(done.stderr)

    @property
    def services(self) -> embedded.Embedded:
        """Where its Postgres and its Redis are."""
        return embedded.describe(self.data_dir)


@contextmanager
def data_folder() -> Iterator[Path]:
    """A data folder with a short path, as sockets want it; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(data_dir: Path, **extra: str) -> dict[str, str]:
    """The environment of a platform: the settings of whoever runs the benchmark are left out."""
    mine = ("NOETL_", "DJANGO_", "DATABASE_", "REDIS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return {**kept, "NOETL_DATA_DIR": str(data_dir), **extra}


@contextmanager
def running(data_dir: Path, *, workers: int = WORKERS, **extra: str) -> Iterator[Platform]:
    """A platform on this data folder until the block ends. Raises: `PlatformFailed`."""
    manage = [sys.executable, str(ROOT / "manage.py")]
    command = [*manage, "standalone", "--json", "--port", "0", "--workers", str(workers)]
    said = data_dir / "standalone.err"
    with said.open("w") as errors:
        process = psutil.Popen(
            command, cwd=ROOT, env=environment(data_dir, **extra), stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        # It prints one line when it is ready, or ends; its own time limits keep this from waiting for ever.
        line = process.stdout.readline()
        if not line:
            raise PlatformFailed(said.read_text())
        ready = json.loads(line)
        yield Platform(data_dir, process, ready["url"], _keep_token(data_dir, ready["token"]))
        process.send_signal(signal.SIGTERM)
        if process.wait(STOP_SECONDS) != 0:
            raise PlatformFailed(said.read_text())
    except Exception:
        # Its folder is about to be removed, and what it said with it.
        print(said.read_text(), file=sys.stderr)
        raise
    finally:
        _end(process)


def _keep_token(data_dir: Path, token: str | None) -> str:
    """The API token: told at the first start on a data folder and not again."""
    file = data_dir / "bench.token"
    if token is not None:
        file.touch(mode=0o600)
        file.write_text(token)
    return file.read_text()


def _end(process: psutil.Popen) -> None:
    """End a platform that did not end by itself, before its folder is removed."""
    if process.poll() is not None:
        return
    programs = process.children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs([process, *programs], STOP_SECONDS)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()
