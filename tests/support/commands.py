"""Commands of `manage.py`, each a process of its own, forked from one that has loaded the project already.

To load it takes more than a second, which tests of a hundred commands would spend a hundred times. What starts from
nothing is tested by those who start `manage.py` itself. As a script (`-m tests.support.commands FD`) it is the process
that forks.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parents[2]
MOST_BYTES: Final = 1 << 16


class Commands:
    """Runs commands in one environment; the process that forks them comes with the first, and goes with `close`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._asking: socket.socket | None = None
        self._lock = Lock()

    def run(self, arguments: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Run one to its end. Raises: `TimeoutExpired`, and the command is killed."""
        asking = self._started()
        out, err = os.pipe(), os.pipe()
        told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with told, ThreadPoolExecutor(2) as readers:
            texts = [readers.submit(_read, end[0]) for end in (out, err)]
            socket.send_fds(asking, [json.dumps(arguments).encode()], [out[1], err[1], telling.fileno()])
            for end in (out[1], err[1]):
                os.close(end)
            telling.close()
            said = told.recv(MOST_BYTES)
            assert said, "the process that forks commands is gone"
            pid = int(said)
            told.settimeout(seconds)
            try:
                code = int(told.recv(MOST_BYTES))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), seconds) from None
            stdout, stderr = (text.result(seconds) for text in texts)
        return subprocess.CompletedProcess(list(arguments), code, stdout, stderr)

    def close(self) -> None:
        """End the process that forks."""
        if self._process is not None and self._asking is not None:
            self._asking.close()
            self._process.wait()

    def _started(self) -> socket.socket:
        with self._lock:
            if self._asking is None:
                self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                command = [sys.executable, "-m", "tests.support.commands", str(theirs.fileno())]
                self._process = subprocess.Popen(command, cwd=ROOT, env=self._env, pass_fds=[theirs.fileno()])
                theirs.close()
            return self._asking


def _read(descriptor: int) -> str:
    with open(descriptor) as file:
        return file.read()


def serve(descriptor: int) -> None:
    """Fork until nobody can ask any more."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noetl_site.settings")
    _load()
    asked = socket.socket(fileno=descriptor)
    # Nobody here waits for those that wait for the commands.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, ends, _, _ = socket.recv_fds(asked, MOST_BYTES, 3)
        if not request:
            return
        if os.fork() == 0:
            asked.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(json.loads(request), *ends)
        for end in ends:
            os.close(end)


def _load() -> None:
    """Everything that commands would load."""
    import django
    from django.core.management import get_commands, load_command_class

    django.setup()
    for name, app in get_commands().items():
        if isinstance(app, str) and not app.startswith("django"):
            load_command_class(app, name)
    import_module("noetl_site.exits")
    # What is there now is the forks' as well: none of them need look through it, and so copy it.
    gc.freeze()


def _attend(arguments: list[str], out: int, err: int, telling: int) -> NoReturn:
    """Run the command in one more process, and tell its pid and its exit code."""
    pid = os.fork()
    if pid == 0:
        os.close(telling)
        for end, place in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(end, place)
            os.close(end)
        from noetl_site.exits import run_command_line

        sys.argv = ["manage.py", *arguments]
        sys.exit(run_command_line(sys.argv))
    for end in (out, err):
        os.close(end)
    os.write(telling, str(pid).encode())
    os.write(telling, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
