"""The worker's end of the sandbox: has children made by a zygote, gives them jobs and ends them.

Knows processes, folders and bounds; nothing of action kinds or leases, and of executions only whether two jobs belong
to the same one. Thread-safe: a zygote has many children at a time.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any, Final, Literal

from executors.sandbox import bubblewrap, linux
from executors.sandbox.folders import NOBODY, JobFolder, JobFolders, give_folder
from executors.sandbox.frames import ChildSpec
from executors.sandbox.handle import ChildHandle, SentJob
from executors.sandbox.levels import Isolation
from executors.sandbox.results import JobFailure, JobResult, Limits
from executors.sandbox.turns import MOST_SECONDS, TurnChildren, is_spent
from executors.sandbox.zygote_process import ZygoteProcess

__all__ = ["Isolation", "JobFailure", "JobResult", "Limits", "NextJob", "Sandbox"]

CPU_SLACK_SECONDS = 2
PRIVATE_UID_BASE = 1 << 30
PRIVATE_UIDS = 256
"""How many a worker has: more than the children it can have at a time."""
TURN_CPU_SECONDS: Final = math.ceil(MOST_SECONDS) * (os.cpu_count() or 1)
"""What the earlier jobs of a turn can have used when the last one begins."""
MOST_DYING: Final = 4
"""Children that were told to die and are not looked after yet."""
NEVER: Final = Event()


@dataclass(frozen=True, slots=True)
class NextJob:
    """A job that comes after another of its execution. `key` names it among all, `payload` is what the program gets."""

    key: str
    payload: dict[str, Any]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A job that a child has been given before it was asked to run it."""

    child: ChildHandle
    sent: SentJob


@dataclass(frozen=True, slots=True)
class _Asked:
    """A job to be run. `turn` is None when its child is not kept; `workdir` is None for the child's own folder."""

    question: bytes
    cpu_seconds: int
    turn: str | None
    workdir: Path | None
    bwrap: str | None
    """The program that wraps the child, at level `bwrap`."""


class Sandbox:
    """Runs jobs of one program in children that are killed when their time is up."""

    def __init__(
        self,
        program: Literal["python", "duckdb", "shell"],
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
        self._owner_pid = os.getpid()
        self._zygote: ZygoteProcess | None = None
        self._kept = TurnChildren()
        self._ahead: dict[str, _Ahead] = {}
        self._busy: set[ChildHandle] = set()
        self._dying: list[ChildHandle] = []
        # Made ahead, by what wraps them, so that the first job of a turn need not wait for a fork; no job ran in them.
        self._spares: dict[str | None, ChildHandle] = {}
        self._made_in = JobFolders()
        self._folders: dict[ChildHandle, JobFolder] = {}
        self._uids: set[int] = set()
        self._last_uid = 0
        linux.hide_from_others()

    def run(
        self,
        payload: dict[str, Any],
        *,
        timeout_seconds: float,
        cancelled: Event | None = None,
        workdir: Path | None = None,
        turn: str | None = None,
        isolation: Isolation | None = None,
        key: str = "",
        look_ahead: Callable[[Callable[[NextJob], None]], None] | None = None,
        printed: Callable[[bytes], None] = lambda chunk: None,
    ) -> JobResult:
        """Run one job to its end, its time-out or its cancellation. `printed` gets what it prints, as it comes.

        `turn` is the id of the execution that the job belongs to: at level `turn` its child is kept for the next job
        of the same one, until `end_turn`. Without it, with a `workdir` and at any other level nothing of the job lives
        on afterwards. Without `workdir` the job finds itself in an empty folder, which is emptied after it; inside
        bubblewrap there is no other.
        `look_ahead` is called when the child has the job, with what hands it the execution's next one: a child that is
        kept begins that one by itself then. It is asked for by its `key` later, or taken back by `recall`.
        Raises: `OSError` when no process can be started.
        """
        deadline = time.monotonic() + timeout_seconds
        level = isolation or self.isolation
        bwrap = bubblewrap.find() if level is Isolation.BWRAP else None
        if level is Isolation.BWRAP and (bwrap is None or workdir is not None):
            why = "bubblewrap (bwrap) is not installed on this worker" if bwrap is None else "the job needs a folder"
            return JobResult(failure=JobFailure("isolation_unavailable", why))
        try:
            question = json.dumps(payload, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            return JobResult(failure=JobFailure("input_invalid", f"the inputs are not JSON: {error}"))
        self._forget_after_fork()
        is_kept = level is Isolation.TURN and workdir is None
        cpu_seconds = math.ceil(timeout_seconds) + CPU_SLACK_SECONDS
        asked = _Asked(question, cpu_seconds, turn if is_kept else None, workdir, bwrap)
        refusal = JobResult()
        for child, sent in self._given(key, asked):
            try:
                if workdir is None:
                    self._make_spare(bwrap)
                if look_ahead is not None and is_kept:
                    look_ahead(partial(self._send_ahead, child))
                result = child.wait(sent, deadline, timeout_seconds, cancelled or NEVER, printed)
            except BaseException:
                # Whatever ends the wait, Ctrl-C among it: no child outlives it.
                self._give_up(child)
                raise
            if result is not None:
                self._keep_if_fit(child, asked.turn)
                return result
            # It had died, or was about to go, when it was given the job: which was not begun.
            refusal = child.refusal(sent)
            self._give_up(child)
        return refusal

    def recall(self, key: str) -> bool:
        """Take back what a child was handed ahead. Returns: whether it has not begun, and never will."""
        with self._lock:
            ahead = self._ahead.get(key)
            if ahead is None:
                return True
            if not ahead.child.recall(ahead.sent):
                return False
            del self._ahead[key]
            # Whoever waits for its job before this one keeps it.
            is_idle = ahead.child not in self._busy
        if is_idle:
            self._dismiss([ahead.child])
        return True

    def end_turn(self) -> None:
        """Have the children killed that wait for another job of their execution; they need not be dead yet."""
        with self._lock:
            ahead, self._ahead = list(self._ahead.values()), {}
        self._dismiss([*self._kept.take_all(), *(each.child for each in ahead)])

    def close(self) -> None:
        """End the zygote and every child, also those that have a job."""
        self._forget_after_fork()
        with self._lock:
            zygote, self._zygote = self._zygote, None
            spares, self._spares = self._spares, {}
            ahead, self._ahead = list(self._ahead.values()), {}
            dying, self._dying = self._dying, []
        if zygote is not None:
            zygote.stop()
        self._end([*self._kept.take_all(), *spares.values(), *(each.child for each in ahead), *dying])
        with self._lock:
            self._made_in.close()

    # -- giving a job to a child ----------------------------------------------------------------------

    def _given(self, key: str, asked: _Asked) -> Iterator[tuple[ChildHandle, SentJob]]:
        """Children that have the job, one after the other: the next when the one before did not begin it."""
        with self._lock:
            ahead = self._ahead.pop(key, None)
            if ahead is not None:
                self._busy.add(ahead.child)
        if ahead is not None:
            yield ahead.child, ahead.sent
        is_kept = asked.turn is not None
        spare_seconds = TURN_CPU_SECONDS if is_kept else 0
        for child in self._candidates(asked):
            try:
                sent = child.send(asked.question, asked.cpu_seconds, spare_seconds=spare_seconds, is_kept=is_kept)
            except BaseException:
                # Whatever it was, nobody else knows of the child.
                self._end([child])
                raise
            with self._lock:
                self._busy.add(child)
            yield child, sent

    def _send_ahead(self, child: ChildHandle, job: NextJob) -> None:
        """Hand a child the job after the one that it has, if it may take it and what it was given before was little."""
        cpu_seconds = math.ceil(job.timeout_seconds) + CPU_SLACK_SECONDS
        if is_spent(child) or cpu_seconds > child.cpu_seconds:
            return
        try:
            question = json.dumps(job.payload, allow_nan=False).encode()
            with self._lock:
                sent = child.send(question, cpu_seconds, spare_seconds=TURN_CPU_SECONDS, is_kept=True)
                self._ahead[job.key] = _Ahead(child, sent)
        except (TypeError, ValueError, RecursionError, OSError):
            # What is wrong with it is told when it is run.
            return

    def _candidates(self, asked: _Asked) -> Iterator[ChildHandle]:
        """Children for a job, the best first; each is the caller's from then on."""
        if asked.turn is not None:
            child, spent = self._kept.take(asked.turn, asked.cpu_seconds)
            self._dismiss(spent)
            if child is not None:
                yield child
        if asked.workdir is None:
            with self._lock:
                spare = self._spares.pop(asked.bwrap, None)
            if spare is not None:
                yield spare
        for _ in range(2):
            with self._lock:
                child = self._new_child(asked.workdir, asked.bwrap)
            yield child

    def _keep_if_fit(self, child: ChildHandle, turn: str | None) -> None:
        with self._lock:
            self._busy.discard(child)
            if any(ahead.child is child for ahead in self._ahead.values()):
                return
        if turn is None:
            self._end([child])
        elif not child.is_fit or is_spent(child):
            self._dismiss([child])
        else:
            self._dismiss(self._kept.keep(turn, child))

    def _make_spare(self, bwrap: str | None) -> None:
        with self._lock:
            if bwrap not in self._spares:
                self._spares[bwrap] = self._new_child(None, bwrap)

    # -- making and ending children -------------------------------------------------------------------

    def _new_child(self, workdir: Path | None, bwrap: str | None) -> ChildHandle:
        """A child that the zygote is about to fork. The caller has the lock. Raises: `OSError`."""
        uid = self._free_uid()
        folder = None
        if bwrap:
            spec = self._spec(bubblewrap.WORKDIR, uid)
            spec = replace(spec, command=bubblewrap.command(bwrap, self._program, spec))
        elif workdir:
            spec = self._spec(str(workdir), uid if uid is None else give_folder(str(workdir), uid))
        else:
            folder = self._made_in.make(uid)
            spec = self._spec(folder.path, folder.uid)
        child = ChildHandle(spec, self._limits)
        try:
            self._start(child)
        except OSError:
            child.close()
            if folder:
                folder.remove()
            raise
        if folder:
            self._folders[child] = folder
        if uid is not None:
            self._uids.add(uid)
        return child

    def _start(self, child: ChildHandle) -> None:
        for final_try in (False, True):
            zygote = self._live_zygote()
            try:
                child.start(zygote)
                return
            except (BrokenPipeError, ConnectionError):
                zygote.stop()
                if final_try:
                    raise

    def _spec(self, folder: str, uid: int | None) -> ChildSpec:
        limits = self._limits
        return ChildSpec(
            workdir=folder,
            uid=uid,
            gid=NOBODY,
            memory_bytes=limits.memory_bytes,
            file_bytes=limits.file_bytes,
            open_files=limits.open_files,
            # The count is per uid: without a private one it would count the worker's processes too.
            processes=limits.processes if uid is not None and uid != NOBODY else 0,
            output_bytes=limits.output_bytes,
        )

    def _free_uid(self) -> int | None:
        """A uid no other live child has: they cannot signal or trace one another; NPROC counts only its own."""
        if not self._drop:
            return None
        base = PRIVATE_UID_BASE + (os.getpid() * PRIVATE_UIDS) % (1 << 30)
        for step in range(1, PRIVATE_UIDS + 1):
            uid = base + (self._last_uid + step) % PRIVATE_UIDS
            if uid not in self._uids:
                self._last_uid = uid - base
                return uid
        raise BlockingIOError(f"more than {PRIVATE_UIDS} jobs at a time")

    def _end(self, children: Iterable[ChildHandle]) -> None:
        """End them, and wait until they and all they started are dead."""
        for child in (children := list(children)):
            child.tell_to_die()
        for child in children:
            child.end()
            self._bury(child)

    def _give_up(self, child: ChildHandle) -> None:
        """End a child that may have been handed a job ahead: which is another's now, unless it has begun."""
        child.end()
        with self._lock:
            has_begun_it = False
            for key in [key for key, ahead in self._ahead.items() if ahead.child is child]:
                if child.recall(self._ahead[key].sent):
                    del self._ahead[key]
                else:
                    has_begun_it = True
        if not has_begun_it:
            self._bury(child)

    def _dismiss(self, children: Iterable[ChildHandle]) -> None:
        """Have them killed, and bury those that are dead by now: nobody has to wait for it."""
        dying = list(children)
        for child in dying:
            child.tell_to_die()
        with self._lock:
            dying, self._dying = [*self._dying, *dying], []
        dead = [child for child in dying if child.is_gone]
        for child in dead:
            self._bury(child)
        left = [child for child in dying if child not in dead]
        # So many at a time, that the pool of uids and descriptors is not used up by the dead.
        self._end(left[:-MOST_DYING])
        with self._lock:
            self._dying += left[-MOST_DYING:]

    def _bury(self, child: ChildHandle) -> None:
        child.close()
        with self._lock:
            self._busy.discard(child)
            folder = self._folders.pop(child, None)
            self._uids.discard(child.spec.uid or 0)
        if folder is not None:
            folder.remove()

    def _live_zygote(self) -> ZygoteProcess:
        if self._zygote is None or not self._zygote.alive:
            if self._zygote is not None:
                self._zygote.stop()
            self._zygote = ZygoteProcess(self._program)
        return self._zygote

    def _forget_after_fork(self) -> None:
        """After a fork of the worker (Celery's prefork) zygote and children belong to the other process."""
        if self._owner_pid == os.getpid():
            return
        with self._lock:
            if self._owner_pid != os.getpid():
                ahead = [each.child for each in self._ahead.values()]
                for child in [*self._kept.take_all(), *self._spares.values(), *ahead, *self._dying]:
                    child.close()
                self._zygote = None
                self._made_in.leave()
                self._spares, self._folders, self._uids = {}, {}, set()
                self._ahead, self._busy, self._dying = {}, set(), []
                self._owner_pid = os.getpid()
