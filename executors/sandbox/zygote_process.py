"""Starts and ends a zygote; the worker's handle on it. Knows nothing of jobs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

DEATH_WAIT_SECONDS = 5.0
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""For the allocator alone, no job sees it: an arena for each thread would use up a job's address space by 64 MB."""


class ZygoteProcess:
    """One running zygote and the thread that started it.

    The thread lives as long as the process: "die with the parent" means the parent's *thread*.
    """

    def __init__(self, program: str) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._started = Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        self._keeper = Thread(target=self._keep, args=(theirs, program), name=f"sandbox-{program}", daemon=True)
        self._keeper.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    @property
    def alive(self) -> bool:
        return self._keeper.is_alive()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _keep(self, theirs: socket.socket, program: str) -> None:
        script = Path(__file__).with_name("zygote.py")
        command = [sys.executable, "-I", str(script), str(theirs.fileno()), str(os.getpid()), program]
        try:
            self._process = subprocess.Popen(
                command,
                env=ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            self._error = error
            return
        finally:
            theirs.close()
            self._started.set()
        self._process.wait()

    def stop(self) -> None:
        """End it and all its children. May be called twice."""
        self.control.close()
        self._keeper.join(DEATH_WAIT_SECONDS)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._keeper.join(DEATH_WAIT_SECONDS)
