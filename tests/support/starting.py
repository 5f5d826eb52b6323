"""Starting executions quickly, again and again: the one place that knows how tests of faults do it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.platform import ROOT, Platform


class NotAcknowledged(Exception):
    """A start got an error for an answer, or none: it may have happened or not."""


@dataclass
class Starter:
    """A client of a platform. `slowest_seconds` is the longest that a start has taken so far."""

    process: subprocess.Popen[str]
    slowest_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, path: str, parameters: dict[str, Any] | None = None, key: str | None = None) -> str:
        """Start an execution. Returns: its id. Raises: `NotAcknowledged`."""
        begun_at = time.monotonic()
        told = self.call("start", path=path, parameters=parameters, key=key)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun_at)
        return str(told["execution_id"])

    def start_together(self, path: str, count: int) -> tuple[list[str], float]:
        """Start executions at the same moment. Returns: their ids, and the seconds that the slowest start took."""
        told = self.call("start_together", path=path, count=count)
        self.slowest_seconds = max(self.slowest_seconds, told["seconds"])
        return told["execution_ids"], told["seconds"]

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Have one function called. Raises: `NotAcknowledged`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._lock:
            self.process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        told: dict[str, Any] = json.loads(line) if line else {"error": "it has ended"}
        if "error" in told:
            raise NotAcknowledged(told["error"])
        return told


@contextmanager
def running_starter(platform: Platform, **extra: str) -> Iterator[Starter]:
    """A starter for a platform, for as long as the block lasts; without the platform's failpoints unless given."""
    env = {name: value for name, value in platform.env.items() if name != "NOETL_FAILPOINTS"} | extra
    log = (platform.data_dir / "starter.log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.starter"],
        cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "{}\n", (platform.data_dir / "starter.log").read_text()
        yield Starter(process)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()
        log.close()


def register(platform: Platform, folder: Path, *texts: str) -> None:
    """Put playbooks into the platform's catalog."""
    for nth, text in enumerate(texts):
        (folder / f"book{nth}.yaml").write_text(text)
    platform.manage("register", str(folder))
