"""Hostile python steps: each is answered within its bound, the worker lives, and nothing of it is read or harmed.

Run as root the steps are users of their own; without root some of these are what docs/security.md says: not kept apart.
"""

from __future__ import annotations

import os
import secrets
import socket
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from executors.actions.python import PythonAction
from executors.contract import ActionRequest, Credential, Outcome
from executors.running import Lent, run_action
from executors.sandbox.host import Limits
from noetl_site import embedded
from tests.settings import FOLDER

CANARY = f"canary-{secrets.token_hex(8)}"
ANSWER_SECONDS = 2.0
"""Beside its own time-out, which a step may use up."""
TIMEOUT_SECONDS = 1.0
SHORT_TIMEOUT_SECONDS = 0.4

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="without root steps have the worker's user")


class Place:
    """A worker with something to steal, and what the hostile steps are told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        limits = Limits(memory_bytes=256 << 20, file_bytes=8 << 20, output_bytes=1 << 20, processes=32)
        self.action = PythonAction(limits)
        self.secret = folder / "secrets.json"
        self.secret.write_text(CANARY)
        self.secret.chmod(0o600)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "own.sock"))
        self.listener.listen()
        (folder / "own.sock").chmod(0o600)
        self.sockets = [str(folder / "own.sock"), *platform_sockets()]

    def told(self) -> dict[str, Any]:
        return {
            "worker": os.getpid(),
            "secret": str(self.secret),
            "sockets": self.sockets,
            "root": str(Path(__file__).resolve().parents[2]),
        }

    def attack(self, code: str, *, timeout: float = TIMEOUT_SECONDS, **more: Any) -> tuple[Outcome, list[str], float]:
        """Run hostile code as a worker runs it. Returns: the outcome, the log, and the seconds it took."""
        lent = Lent(self.folder, threading.Event(), lambda name: Credential(name, "generic", {}))
        given = {**self.told(), **more}
        request = ActionRequest("python", {"code": textwrap.dedent(code)}, given, "e1", "e1:s", "s", 1, "e1:s", timeout)
        begun_at = time.monotonic()
        outcome = run_action({"python": self.action}, request, lent)
        seconds = time.monotonic() - begun_at
        self.action.end_turn()
        return outcome, [line.text for line in lent.lines.take()], seconds

    def is_well(self) -> bool:
        """Whether an honest step still gets its answer."""
        outcome, _, _ = self.attack("def main(worker): return worker + 1", timeout=10)
        return outcome.status == "success" and outcome.data == os.getpid() + 1


def platform_sockets() -> list[str]:
    """The sockets of this test run's own servers."""
    # Folders of databases come and go under the walk, which passes over them.
    return [
        path
        for folder, _, names in os.walk(os.environ[FOLDER])
        for path in (f"{folder}/{name}" for name in names)
        if Path(path).is_socket()
    ]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    os.environ["NOETL_ATTACKED"] = CANARY
    embedded.ensure_running(Path(os.environ[FOLDER]))
    folder = Path(os.environ[FOLDER]) / f"a{os.urandom(4).hex()}"
    folder.mkdir()
    folder.chmod(0o755)
    place = Place(folder)
    assert place.is_well()
    yield place
    place.action.close()
    place.listener.close()
    del os.environ["NOETL_ATTACKED"]


# What each comes to: the code of its failure, or the data of its success. None: whichever, as long as it is over in time.
HARM: dict[str, tuple[str, Any]] = {
    # -- using everything up
    "fork bomb": ("def main(**_):\n    while True: os.fork()", None),
    "fork bomb that catches": (
        "def main(**_):\n    while True:\n        try: os.fork()\n        except OSError: pass", "timeout",
    ),
    "processes that stay": (
        "import subprocess\ndef main(**_):\n    for _ in range(20): subprocess.Popen(['/bin/sleep', '1000'])\n    return 1", 1,
    ),
    "daemons": (
        """
        def main(**_):
            for _ in range(8):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        while True: pass
                    os._exit(0)
            return 1
        """, 1,
    ),
    "threads without end": (
        "import threading, time\ndef main(**_):\n    while True: threading.Thread(target=time.sleep, args=[99]).start()",
        None,
    ),
    "descriptors": ("def main(**_):\n    return [os.open('/dev/null', 0) for _ in range(10**6)]", "python_error"),
    "pipes": ("def main(**_):\n    while True: os.pipe()", "python_error"),
    "memory at once": ("def main(**_): return len(bytearray(1 << 34))", "out_of_memory"),
    "memory bit by bit": ("def main(**_):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))", "out_of_memory"),
    "memory by doubling": ("def main(**_):\n    text = 'x'\n    while True: text += text", "out_of_memory"),
    "memory of an integer": ("def main(**_): return 9 ** 9 ** 9", "timeout"),
    "memory mapped": ("import mmap\ndef main(**_): return [mmap.mmap(-1, 1 << 28) for _ in range(100)]", None),
    "memory of memory files": (
        "def main(**_):\n    for n in range(100):\n        f = os.memfd_create('x')\n        while True: os.write(f, bytes(1 << 20))",
        None,
    ),
    "memory in children": (
        "def main(**_):\n    for _ in range(8):\n        if os.fork() == 0: kept = [bytearray(1 << 20) for _ in range(10**6)]\n    return os.wait()[0] > 0",
        None,
    ),
    "a large file": (
        "def main(**_):\n    with open('f', 'wb') as f:\n        while True: f.write(bytes(1 << 20))", "python_error",
    ),
    "endless loop": ("def main(**_):\n    while True: pass", "timeout"),
    "endless sleep": ("import time\ndef main(**_): time.sleep(10**6)", "timeout"),
    "busy C code": ("import re\ndef main(**_): re.match('(a*)*b', 'a' * 40)", "timeout"),
    "busy C code with signals off": (
        "import signal, re\ndef main(**_):\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    re.match('(a*)*b', 'a' * 40)",
        "timeout",
    ),
    "signals ignored": (
        """
        import signal
        def main(**_):
            for number in range(1, 65):
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            while True: pass
        """, "timeout",
    ),
    "stopping itself": ("import signal\ndef main(**_): os.kill(os.getpid(), signal.SIGSTOP)", None),
    "recursion": ("def main(**_): return main()", "python_error"),
    "recursion in C": (
        "import sys\ndef main(**_):\n    sys.setrecursionlimit(10**9)\n    def f(): return f()\n    return f()", None,
    ),
    "a source too deep": ("def main(**_): return eval('(' * 10**5 + ')' * 10**5)", None),
    "a busy top level": ("while True: pass", "timeout"),
    "a busy property of the result": (
        "class Evil(dict):\n    def items(self):\n        while True: pass\ndef main(**_): return Evil(a=1)", "timeout",
    ),
    "limits that are lifted": (
        """
        import resource
        def main(**_):
            told = []
            for name in ('RLIMIT_AS', 'RLIMIT_NOFILE', 'RLIMIT_NPROC', 'RLIMIT_FSIZE', 'RLIMIT_CORE'):
                try:
                    resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY,) * 2)
                    told.append(name)
                except (OSError, ValueError): pass
            return told
        """, [],
    ),
    # -- talking to the worker
    "a flood of prints": ("def main(**_):\n    while True: print('x' * 10_000)", "timeout"),
    "a flood of bytes": ("def main(**_):\n    while True: os.write(1, b'\\n' * 60_000)", "timeout"),
    "a flood of logs": ("def main(**_):\n    while True: logger.critical('x' * 1000)", "timeout"),
    "an answer forged on all descriptors": (
        """
        import struct
        def main(**_):
            body = b'{"ok": true, "value": "forged"}'
            for number in range(3, 256):
                for mark in (bytes(16), b''):
                    try: os.write(number, mark + b'\\x01' + body)
                    except OSError: pass
            return 'real'
        """, "real",
    ),
    "a huge answer on all descriptors": (
        "def main(**_):\n    for number in range(256):\n        try: os.write(number, bytes(1 << 22))\n        except OSError: pass\n    return 1",
        None,
    ),
    "all descriptors closed": ("def main(**_):\n    os.closerange(0, 256)\n    return 1", None),
    "all descriptors replaced": (
        "def main(**_):\n    null = os.open('/dev/null', 2)\n    for number in range(256):\n        if number != null: os.dup2(null, number)\n    return 1",
        None,
    ),
    "streams closed": ("import sys\ndef main(**_):\n    sys.stdout.close(); sys.stderr.close(); sys.stdin.close()\n    return 1", 1),
    "input asked for": ("def main(**_): return input()", "python_error"),
    "exit": ("import sys\ndef main(**_): sys.exit(0)", "exited"),
    "exit without a word": ("def main(**_): os._exit(0)", "exited"),
    "an exit hook that hangs": (
        "import atexit, time\ndef main(**_):\n    atexit.register(time.sleep, 10**6)\n    return 1", 1,
    ),
    "a thread that stays": (
        "import threading, time\ndef main(**_):\n    threading.Thread(target=time.sleep, args=[10**6]).start()\n    return 1", 1,
    ),
    "abort": ("def main(**_): os.abort()", "killed"),
    "a fault of memory": ("import ctypes\ndef main(**_): ctypes.string_at(1)", "killed"),
    "killing itself": ("import signal\ndef main(**_): os.kill(os.getpid(), signal.SIGKILL)", None),
    "killing its group": ("import signal\ndef main(**_): os.killpg(0, signal.SIGKILL)", None),
    "killing everybody": ("import signal\ndef main(**_): os.kill(-1, signal.SIGKILL)", None),
    "a job that comes back twice": ("def main(**_):\n    os.fork()\n    return 'once'", "once"),
    "the sandbox's own modules broken": (
        "import sys\ndef main(**_):\n    for name in list(sys.modules): sys.modules[name] = None\n    return 1", None,
    ),
    "json broken": ("def main(**_):\n    json.dumps = json.loads = lambda *a, **k: 1 / 0\n    return 1", None),
    "an exception that cannot be told": (
        "class E(Exception):\n    def __str__(self): raise self\ndef main(**_): raise E", "python_error",
    ),
    "an exception with a huge text": ("def main(**_): raise ValueError('x' * 10**7)", "python_error"),
    "an exception with NUL and half characters": ("def main(**_): raise ValueError('\\0\\ud800')", "python_error"),
    "the code does not compile": ("def main(:", "code_invalid"),
    "the code has NUL": ("def main(): pass\0", "code_invalid"),
    # -- reaching the worker
    "signals to the worker": (
        """
        import signal
        def main(worker, **_):
            told = []
            for pid in (worker, os.getppid(), 1):
                for number in (signal.SIGTERM, signal.SIGKILL, 0):
                    # Inside a namespace of processes 1 is this one.
                    if pid in (os.getpid(), 0) or (pid == 1 and os.getpid() == 1): continue
                    try: os.kill(pid, number); told.append(pid)
                    except OSError: pass
            return told
        """, [],
    ),
    "tracing the worker": (
        """
        import ctypes
        def main(worker, **_):
            libc = ctypes.CDLL(None, use_errno=True)
            return [libc.ptrace(how, pid, 0, 0) for how in (16, 0x4206) for pid in (worker, os.getppid())]
        """, [-1, -1, -1, -1],
    ),
    "handles on the worker": (
        """
        import ctypes, fcntl, signal
        def main(worker, **_):
            libc, told = ctypes.CDLL(None, use_errno=True), []
            class Vector(ctypes.Structure):
                _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]
            for pid in {worker, os.getppid()} - {os.getpid(), 0}:
                here, there = Vector(ctypes.addressof(ctypes.create_string_buffer(8)), 8), Vector(id(None), 8)
                for name in ('process_vm_readv', 'process_vm_writev'):
                    if getattr(libc, name)(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) != -1: told.append(name)
                try: handle = os.pidfd_open(pid)
                except OSError: continue
                # pidfd_getfd, process_madvise, setns; and a signal.
                for number, *rest in ((438, 0, 0), (440, ctypes.byref(there), 1, 21, 0), (308, 0x20000000)):
                    if libc.syscall(number, handle, *rest) != -1: told.append(number)
                try: signal.pidfd_send_signal(handle, signal.SIGTERM); told.append('signal')
                except OSError: pass
            try: fcntl.ioctl(0, 0x5412, b'x'); told.append('terminal')
            except OSError: pass
            return told
        """, [],
    ),
    "what is root's to do": (
        """
        import ctypes, stat, time
        def main(**_):
            libc, told = ctypes.CDLL(None, use_errno=True), []
            os.mkdir('place')
            for name, *rest in (
                ('mount', b'none', b'place', b'tmpfs', 0, None), ('ioperm', 0, 1, 1), ('iopl', 3), ('acct', b'place/x'),
                ('swapon', b'place/x', 0), ('syscall', 310, 1, 0, 0, 0, 0, 0), ('syscall', 321, 0, 0, 0), ('vhangup',),
            ):
                if getattr(libc, name)(*rest) != -1: told.append([name, *map(str, rest)])
            for act in (
                lambda: os.chroot('place'), lambda: os.mknod('place/mem', 0o600 | stat.S_IFCHR, os.makedev(1, 1)),
                lambda: os.nice(-5), lambda: os.setpriority(os.PRIO_PROCESS, 0, -5), lambda: os.chown('place', 0, 0),
                lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
                lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
                *(lambda path=path: os.open(path, os.O_WRONLY) for path in (
                    '/etc/passwd', '/etc/ld.so.preload', '/etc/crontab', '/proc/sysrq-trigger', '/dev/mem', '/dev/kmsg',
                    '/proc/sys/kernel/core_pattern', '/proc/sys/vm/drop_caches', '/proc/1/oom_score_adj', '/sys/power/state',
                )),
                lambda: os.open('/etc/x', os.O_CREAT), lambda: os.open('/usr/lib/x', os.O_CREAT),
            ):
                try: act(); told.append('done')
                except OSError: pass
            return told
        """, [],
    ),
    "becoming root": (
        """
        def main(**_):
            told = []
            for become in (os.setuid, os.setgid, os.seteuid, lambda n: os.setgroups([n])):
                try: become(0); told.append(str(become))
                except OSError: pass
            return [told, os.getuid() == 0]
        """, [[], False],
    ),
    "namespaces of its own": (
        "import ctypes\ndef main(secret, **_):\n    ctypes.CDLL(None).unshare(0x10000000)\n    return os.access(secret, os.R_OK)",
        False,
    ),
    "setuid files": (
        """
        def main(**_):
            with open('x', 'w') as f: f.write('#!/bin/sh')
            os.chmod('x', 0o4755)
            return os.stat('x').st_uid == 0
        """, False,
    ),
    "its folder replaced by a link": (
        "import shutil\ndef main(root, **_):\n    here = os.getcwd()\n    os.chdir('/')\n    try: os.rename(here, here + '-away'); os.symlink(root, here)\n    except OSError: pass\n    return 1",
        1,
    ),
    "links to everywhere in its folder": (
        "def main(root, secret, **_):\n    os.symlink(root, 'a'); os.symlink(secret, 'b'); os.symlink('/', 'c')\n    return 1", 1,
    ),
    "a folder that cannot be emptied": (
        "def main(**_):\n    os.makedirs('/'.join(['d'] * 500)); os.chmod('d', 0)\n    return 1", 1,
    ),
}  # fmt: skip

# Each gives what it could read: nothing of it may hold the canary.
THEFT: dict[str, str] = {
    "its environment": "def main(**_): return [dict(os.environ), open('/proc/self/environ').read()]",
    "the worker's environment": "def main(worker, **_): return open(f'/proc/{worker}/environ').read()",
    "everybody's environment": """
        def main(**_):
            told = []
            for name in os.listdir('/proc'):
                if name.isdigit():
                    try: told.append(open(f'/proc/{name}/environ').read())
                    except OSError: pass
            return ''.join(told).replace('\\0', ' ')[:500_000]
        """,
    "the worker's memory": """
        def main(worker, **_):
            told = b''
            for line in open(f'/proc/{worker}/maps'):
                start, end = (int(part, 16) for part in line.split()[0].split('-'))
                with open(f'/proc/{worker}/mem', 'rb') as memory:
                    memory.seek(start); told += memory.read(min(end - start, 1 << 20))
            return told.hex()
        """,
    "the worker's descriptors": """
        def main(worker, **_):
            return [open(f'/proc/{worker}/fd/{n}', 'rb').read(100).hex() for n in os.listdir(f'/proc/{worker}/fd')]
        """,
    "the worker's root": "def main(worker, secret, **_): return open(f'/proc/{worker}/root{secret}').read()",
    "a secret file": "def main(secret, **_): return open(secret).read()",
    "a secret file by a link": "def main(secret, **_):\n    os.symlink(secret, 'x')\n    return open('x').read()",
    "a secret file by a hard link": "def main(secret, **_):\n    os.link(secret, 'x')\n    return open('x').read()",
    "a secret file by a program": """
        import subprocess
        def main(secret, **_): return subprocess.run(['/bin/cat', secret], capture_output=True).stdout.decode()
        """,
    "shadow": "def main(**_): return open('/etc/shadow').read()",
    "what it inherited": """
        def main(**_):
            told = []
            for n in range(256):
                try: told.append(os.pread(n, 10_000, 0).hex())
                except OSError: pass
            return told
        """,
    "the modules of the process": """
        import gc, sys
        def main(**_): return str([v for m in list(sys.modules.values()) for v in list(vars(m or os).values()) if isinstance(v, (str, bytes))])[:900_000]
        """,
    "the memory of the process": """
        import gc
        def main(**_): return str([o for o in gc.get_objects() if isinstance(o, (dict, list, tuple))])[:900_000]
        """,
    "frames above": """
        import sys
        def main(**_):
            told, frame = [], sys._getframe()
            while frame: told.append(str({**frame.f_globals, **frame.f_locals})[:100_000]); frame = frame.f_back
            return told
        """,
    "the project's settings": """
        import sys
        def main(root, **_):
            sys.path.insert(0, root)
            os.environ['DJANGO_SETTINGS_MODULE'] = 'noetl_site.settings'
            from noetl_site import settings
            return str(vars(settings))[:900_000]
        """,
    "a shared memory segment": "def main(**_): return [open(f'/dev/shm/{n}', 'rb').read(1000).hex() for n in os.listdir('/dev/shm')]",
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_harm_is_answered_in_time_and_the_worker_lives(place: Place, name: str) -> None:
    code, expected = HARM[name]
    # What takes all the time that it has needs no more of it to do its worst.
    timeout = SHORT_TIMEOUT_SECONDS if expected == "timeout" else TIMEOUT_SECONDS
    outcome, log, seconds = place.attack(code, timeout=timeout)
    assert seconds < ANSWER_SECONDS
    assert sum(map(len, log)) < 300_000
    if expected is not None:
        assert (outcome.code or outcome.data) == expected, outcome
    assert "forged" not in str(outcome.data)
    assert len(outcome.message) < 25_000 and "\0" not in outcome.message
    assert place.is_well()


@pytest.mark.parametrize("name", THEFT)
def test_nothing_is_read_that_must_not_be_read(place: Place, name: str) -> None:
    outcome, log, seconds = place.attack(THEFT[name], timeout=5)
    assert seconds < ANSWER_SECONDS
    told = f"{outcome} {log}"
    assert CANARY not in told and CANARY.encode().hex() not in told, name
    assert place.is_well()


def test_what_is_open_to_everybody_is_read_so_that_the_others_say_something(place: Place) -> None:
    place.secret.chmod(0o644)
    try:
        outcome, _, _ = place.attack(THEFT["a secret file by a program"], timeout=5)
    finally:
        place.secret.chmod(0o600)
    assert outcome.data == CANARY


def test_the_platforms_own_sockets_are_closed_to_steps(place: Place) -> None:
    code = """
        import socket
        def main(sockets, **_):
            told = []
            for name in sockets:
                try:
                    socket.socket(socket.AF_UNIX).connect(name)
                    told.append(name)
                except OSError: pass
            return [len(sockets), told]
    """
    outcome, _, _ = place.attack(code, timeout=5)
    assert outcome.status == "success", outcome
    count, reached = outcome.data
    assert count >= 2 and reached == []


def test_nothing_of_the_attacks_is_left(place: Place) -> None:
    """Runs after the others of this file, and finds no process and no folder of theirs."""
    place.attack(HARM["daemons"][0])
    place.attack(HARM["processes that stay"][0])
    place.attack(HARM["fork bomb that catches"][0])
    place.action.end_turn()
    uids = {process.uids().real for process in psutil.process_iter() if process.uids().real >= 1 << 30}
    mine = {child.spec.uid for child in place.action._sandbox._spares.values()}
    base = (1 << 30) + (os.getpid() * 256) % (1 << 30)
    assert {uid for uid in uids if base <= uid < base + 256} <= mine
