"""The processes of a platform by what they are, the memory they hold and the processor time they have used.

Knows `/proc` and what a platform is made of; nothing of what it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from benchmarks.platform import Platform

SUPERVISOR: Final = "supervisor"
PROGRAMS: Final = {"gunicorn": "web", "celery": "worker", "reconcile": "reconciler"}
"""By a word of their title."""


def parts(platform: Platform) -> dict[str, list[psutil.Process]]:
    """All processes of a platform. The worker's are told apart: its parent, its pool, what runs the actions."""
    found: dict[str, list[psutil.Process]] = {SUPERVISOR: [psutil.Process(platform.process.pid)]}
    for program in platform.process.children():
        title = " ".join(program.cmdline())
        name = next((name for word, name in PROGRAMS.items() if word in title), "other")
        if name == "worker":
            pool = program.children()
            found |= {"worker's parent": [program], "worker's pool": pool}
            found["worker's sandboxes"] = [below for child in pool for below in child.children(recursive=True)]
        else:
            found[name] = [program, *program.children(recursive=True)]
    for name, file in (("Postgres", "postgres/postmaster.pid"), ("Redis", "redis/redis.pid")):
        server = psutil.Process(int((platform.data_dir / file).read_text().split()[0]))
        found[name] = [server, *server.children(recursive=True)]
    return found


@contextmanager
def workers_halted(platform: Platform) -> Iterator[None]:
    """Have the worker do nothing during the block: what is started meanwhile waits for it."""
    found = parts(platform)
    processes = [*found["worker's parent"], *found["worker's pool"]]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def processor_seconds(platform: Platform) -> dict[str, float]:
    """User and system time by part, with that of children which have ended."""
    seconds = {}
    for name, processes in parts(platform).items():
        seconds[name] = 0.0
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                seconds[name] += sum(process.cpu_times()[:4])
    return seconds


def resident_mb(platform: Platform) -> dict[str, float]:
    """Memory by part; pages that several processes share are shared out among them (PSS)."""
    return {
        name: sum(_proportional_bytes(processes)) / 2**20 for name, processes in parts(platform).items() if processes
    }


def _proportional_bytes(processes: list[psutil.Process]) -> Iterator[int]:
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    yield int(line.split()[1]) * 1024
