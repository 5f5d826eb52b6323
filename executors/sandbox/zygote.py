"""The warm fork server: a small single-threaded process that forks the children that run jobs.

Run as a plain script (`python -I zygote.py CONTROL_FD PARENT_PID PROGRAM`) with an empty environment. Knows
how to fork, confine, kill and reap; what a child does is `child`'s matter, deadlines are the worker's.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # A plain script has no package; only the modules named here are taken from the project.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import contextlib
import gc
import importlib
import selectors
import signal
import socket
import threading
from dataclasses import dataclass
from typing import Any, NoReturn

from executors.sandbox import bubblewrap, frames, jail, libraries, linux
from executors.sandbox import child as confined
from executors.sandbox.child import PROGRAMS, Program
from executors.sandbox.frames import ChildSpec


@dataclass(slots=True)
class Child:
    pid: int
    pidfd: int
    channel: socket.socket


class Zygote:
    """Serves one worker until its control socket closes."""

    def __init__(self, control: socket.socket, program: Program, library_descriptors: list[int]) -> None:
        self._control = control
        self._program = program
        self._library_descriptors = library_descriptors
        self._namespaces = linux.PidNamespaces()
        self._children: dict[int, Child] = {}
        self._lifeline, self._lifeline_held = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._accept():
                        return
                elif key.data is not None:
                    self._attend(key)

    def _accept(self) -> bool:
        request, descriptors, _, _ = socket.recv_fds(self._control, frames.REQUEST_MAX_BYTES, frames.DESCRIPTORS)
        if not request:
            return False
        for descriptor in descriptors:
            # Python 3.11 does not pass MSG_CMSG_CLOEXEC on, and so lets every program inherit them.
            os.set_inheritable(descriptor, False)
        wire, printed, channel = descriptors
        self._start(ChildSpec.decode(request), wire, printed, socket.socket(fileno=channel))
        for descriptor in (wire, printed):
            os.close(descriptor)
        return True

    def _start(self, spec: ChildSpec, wire: int, printed: int, channel: socket.socket) -> None:
        try:
            pid = self._fork()
        except OSError:
            _answer(channel, frames.FORK_FAILED)
            return
        if pid == 0:
            self._become_child(spec, wire, printed)
        child = Child(pid, os.pidfd_open(pid), channel)
        self._children[pid] = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._selector.register(channel, selectors.EVENT_READ, child)

    def _fork(self) -> int:
        if not self._namespaces.available:
            return os.fork()
        self._namespaces.enter_next_child()
        try:
            pid = os.fork()
        except OSError:
            self._namespaces.leave()
            raise
        if pid:
            self._namespaces.leave()
        return pid

    def _become_child(self, spec: ChildSpec, wire: int, printed: int) -> NoReturn:
        # Whatever happens, this process must not go on as a second zygote.
        try:
            connection = socket.socket(fileno=wire)
            try:
                jail.part(printed=printed, keep={wire, self._lifeline, *self._library_descriptors})
                if spec.command:
                    jail.die_with_zygote(self._lifeline)
                    os.dup2(wire, bubblewrap.WIRE)
                    os.execve(spec.command[0], spec.command, {})  # noqa: S606  (the worker made this list)
                jail.confine(spec)
                jail.die_with_zygote(self._lifeline)
            except BaseException as error:
                # Whatever keeps it from being confined, nothing is run.
                confined.refuse(connection, f"{type(error).__name__}: {error}")
            else:
                confined.serve(connection, spec, self._program)
            os._exit(0)
        finally:
            os._exit(1)

    def _attend(self, key: selectors.SelectorKey) -> None:
        child: Child = key.data
        if child.pid not in self._children:
            return
        if key.fd == child.pidfd:
            self._bury(child)
        else:
            self._selector.unregister(child.channel)
            _kill(child.pid)

    def _bury(self, child: Child) -> None:
        # Before the wait, while the number still belongs to this job and to nobody else.
        _kill(child.pid)
        status = os.waitpid(child.pid, 0)[1]
        del self._children[child.pid]
        if not self._namespaces.available:
            self._kill_strays()
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.channel)
        _answer(child.channel, status)

    def _kill_strays(self) -> None:
        """End what jobs left behind: as their subreaper the zygote inherits every orphan."""
        for _ in range(1000):
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listing:
                strays = [int(pid) for pid in listing.read().split() if int(pid) not in self._children]
            if not strays:
                return
            for pid in strays:
                os.kill(pid, signal.SIGKILL)
            for pid in strays:
                os.waitpid(pid, 0)

    def close(self) -> None:
        """End every job and what jobs started."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for child in list(self._children.values()):
            self._bury(child)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _answer(channel: socket.socket, status: int) -> None:
    with channel, contextlib.suppress(OSError):
        channel.send(frames.STATUS.pack(status))


def main(control_descriptor: int, parent_pid: int, program_name: str) -> None:
    # Not by SIGKILL: without namespaces it is the zygote that has to end what jobs left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    linux.die_with_parent(signal.SIGTERM)
    if os.getppid() != parent_pid:
        return
    linux.set_process_option(linux.PR_SET_CHILD_SUBREAPER, 1)
    sys.path.pop(0)
    # What was for the allocator, and LC_CTYPE, which the C locale's coercion leaves behind.
    os.environ.clear()
    library_descriptors = libraries.keep_importable()
    program: Any = importlib.import_module(PROGRAMS[program_name])
    program.preload()
    if threading.active_count() != 1 or len(os.listdir("/proc/self/task")) != 1:
        raise SystemExit("the zygote must have one thread: a fork of more can deadlock")
    gc.collect()
    gc.freeze()
    zygote = Zygote(socket.socket(fileno=control_descriptor), program, library_descriptors)
    try:
        zygote.serve()
    finally:
        zygote.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
