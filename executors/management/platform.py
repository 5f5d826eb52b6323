"""A platform for one run: when no worker is alive, `standalone` is started beside the command and stopped after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from django.db import ProgrammingError

from executors.models import Runtime
from executors.worker.presence import find_live

STOP_SECONDS = 30


def has_live_worker() -> bool:
    """Whether a worker pool is alive; False as well while the database has no tables yet."""
    try:
        return bool(find_live(Runtime.ComponentType.WORKER_POOL))
    except ProgrammingError:
        return False


@contextmanager
def platform_for_this_run(workers: int, pools: Iterable[str], stderr: OutputWrapper) -> Iterator[None]:
    """Have a live platform inside the block; one that is started serves these pools beside those of the settings.

    Raises: `CommandError` when it does not start.
    """
    if has_live_worker():
        yield
        return
    stderr.write("no live worker: starting the platform for this run")
    process = _start(workers, pools)
    try:
        yield
    finally:
        _stop(process)


def _start(workers: int, pools: Iterable[str]) -> subprocess.Popen[str]:
    manage = Path(settings.BASE_DIR) / "manage.py"
    command = [sys.executable, str(manage), "standalone", "--no-web", "--json", "--workers", str(workers)]
    for pool in dict.fromkeys([*settings.NOETL_WORKER_POOLS, *pools]):
        command += ["--pool", pool]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not _is_ready(line):
        _stop(process)
        raise CommandError("the platform did not start; its messages are above")
    return process


def _is_ready(line: str) -> bool:
    try:
        ready: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(ready, dict) and "data_dir" in ready


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
