"""The worker's end of the sandbox: starts the zygote, asks for jobs, waits with a deadline.

Knows processes, descriptors and bounds; nothing of action kinds, executions or leases. Thread-safe: a zygote
serves many jobs at a time.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from threading import Event, Lock
from typing import Any, Literal

from executors.sandbox import linux
from executors.sandbox.frames import ChildSpec
from executors.sandbox.job import Job, JobFailure, JobResult, Limits
from executors.sandbox.zygote_process import ZygoteProcess

__all__ = ["Isolation", "JobFailure", "JobResult", "Limits", "Sandbox"]

CPU_SLACK_SECONDS = 2
PRIVATE_UID_BASE = 1 << 30
NOBODY = 65534


class Isolation(StrEnum):
    """How far jobs are kept apart. `turn` (one child for an execution's turn) and `bwrap` are to come."""

    JOB = "job"


class Sandbox:
    """Runs jobs of one program, each in a child of its own that is killed when its time is up."""

    def __init__(
        self,
        program: Literal["python", "duckdb"],
        limits: Limits | None = None,
        *,
        isolation: Isolation = Isolation.JOB,
        drop_privileges: bool = True,
    ) -> None:
        self.isolation = isolation
        self._program = program
        self._limits = limits or Limits()
        self._drop = drop_privileges and os.geteuid() == 0
        self._lock = Lock()
        self._zygote: ZygoteProcess | None = None
        self._owner_pid = 0
        self._job_numbers = itertools.count()
        linux.hide_from_others()

    def run(
        self,
        payload: dict[str, Any],
        *,
        timeout_seconds: float,
        cancelled: Event | None = None,
        workdir: Path | None = None,
    ) -> JobResult:
        """Run one job to its end, its time-out or its cancellation; nothing of it lives on afterwards.

        Without `workdir` the job gets an empty folder that is removed with it.
        """
        deadline = time.monotonic() + timeout_seconds
        uid = self._next_uid()
        folder = str(workdir) if workdir else tempfile.mkdtemp(prefix="noetl-job-")
        try:
            if uid is not None:
                uid = _give_folder(folder, uid)
            spec = self._spec(folder, uid, timeout_seconds)
            return self._run(payload, spec, deadline, timeout_seconds, cancelled or Event())
        finally:
            if workdir is None:
                _remove_folder(folder)

    def close(self) -> None:
        """End the zygote and every job it runs."""
        with self._lock:
            if self._zygote is not None and self._owner_pid == os.getpid():
                self._zygote.stop()
            self._zygote = None

    def _next_uid(self) -> int | None:
        """A uid no other live job has: jobs cannot signal or trace one another; NPROC counts only its own."""
        if not self._drop:
            return None
        return PRIVATE_UID_BASE + (os.getpid() << 8) % (1 << 30) + next(self._job_numbers) % 256

    def _spec(self, folder: str, uid: int | None, timeout_seconds: float) -> ChildSpec:
        limits = self._limits
        return ChildSpec(
            workdir=folder,
            uid=uid,
            gid=NOBODY,
            cpu_seconds=math.ceil(timeout_seconds) + CPU_SLACK_SECONDS,
            memory_bytes=limits.memory_bytes,
            file_bytes=limits.file_bytes,
            open_files=limits.open_files,
            # The count is per uid: without a private one it would count the worker's processes too.
            processes=limits.processes if uid is not None and uid != NOBODY else 0,
            output_bytes=limits.output_bytes,
        )

    def _run(
        self,
        payload: dict[str, Any],
        spec: ChildSpec,
        deadline: float,
        timeout_seconds: float,
        cancelled: Event,
    ) -> JobResult:
        try:
            question = json.dumps(payload, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            return JobResult(failure=JobFailure("input_invalid", f"the inputs are not JSON: {error}"))
        with Job(self._limits) as job:
            zygote = self._ask(job, spec, question)
            cause = job.wait(deadline, cancelled)
            if not job.stop():
                # The zygote does not answer: its death takes every child along.
                zygote.stop()
                job.stop()
            return job.result(cause, timeout_seconds)

    def _ask(self, job: Job, spec: ChildSpec, question: bytes) -> ZygoteProcess:
        with self._lock:
            for final_try in (False, True):
                zygote = self._live_zygote()
                try:
                    job.send(zygote.control, spec, question)
                    return zygote
                except (BrokenPipeError, ConnectionError):
                    zygote.stop()
                    if final_try:
                        raise
        raise AssertionError("unreachable")

    def _live_zygote(self) -> ZygoteProcess:
        if self._owner_pid != os.getpid():
            # After a fork of the worker (Celery's prefork) the zygote belongs to the other process.
            self._zygote, self._owner_pid = None, os.getpid()
        if self._zygote is None or not self._zygote.alive:
            if self._zygote is not None:
                self._zygote.stop()
            self._zygote = ZygoteProcess(self._program)
        return self._zygote


def _give_folder(folder: str, uid: int) -> int:
    """Make `folder` belong to `uid`; where a user namespace has no such uid, to `nobody`."""
    try:
        os.chown(folder, uid, NOBODY)
        return uid
    except OSError:
        os.chown(folder, NOBODY, NOBODY)
        return NOBODY


def _remove_folder(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
