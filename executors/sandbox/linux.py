"""The few Linux calls Python 3.11 has no function for. Knows nothing of jobs."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWPID = 0x20000000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_process_option(option: int, value: int) -> None:
    """`prctl(option, value)`."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def hide_from_others() -> None:
    """Let nobody but root read this process's memory and environment through /proc; forks inherit it, programs not."""
    set_process_option(PR_SET_DUMPABLE, 0)


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent thread ends. Cleared by a change of uid."""
    set_process_option(PR_SET_PDEATHSIG, by)


class PidNamespaces:
    """Gives each forked child a process namespace of its own, where the kernel allows it.

    The child is process 1 there: when it ends, the kernel kills everything it started, however it tried to
    detach itself, and no signal of its own reaches a process outside.
    """

    def __init__(self) -> None:
        self.available = False
        try:
            self._own = os.open("/proc/self/ns/pid", os.O_RDONLY)
            self.enter_next_child()
            self.available = True
            self.leave()
        except OSError:
            self.available = False

    def enter_next_child(self) -> None:
        """The next fork makes a namespace. Call `leave` after it."""
        _check(_libc.unshare(CLONE_NEWPID))

    def leave(self) -> None:
        """Later forks stay in this process's own namespace."""
        _check(_libc.setns(self._own, CLONE_NEWPID))
