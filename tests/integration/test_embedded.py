"""Postgres and Redis from wheels: shared, stopped by the last user, recovered, private, and nobody's rival."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import conninfo

from noetl_site import embedded
from noetl_site.embedded import processes
from noetl_site.embedded.folder import MAX_SOCKET_PATH, Folder
from noetl_site.embedded.postgres import is_running, postgres_programs
from noetl_site.embedded.redis import redis_answers, redis_program
from tests.support.platform import ROOT, environment

# Uses the services, says so, and lets go of them when its input ends.
USER = """
import sys
from pathlib import Path
from noetl_site import embedded
print(embedded.ensure_running(Path(sys.argv[1])).database_url, flush=True)
sys.stdin.read()
"""
FORKING_USER = """
import os, sys
from pathlib import Path
from noetl_site import embedded
embedded.ensure_running(Path(sys.argv[1]))
if os.fork():
    print("forked", flush=True)
    os._exit(0)
sys.stdin.read()
"""


class User:
    """A process that uses the services of a folder."""

    def __init__(self, data_dir: Path, program: str = USER, **extra: object) -> None:
        command = [sys.executable, "-c", program, str(data_dir)]
        env = {**environment(data_dir), "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True, **extra)  # type: ignore[call-overload]  # its keywords vary
        self.said = self.process.stdout.readline().strip()
        assert self.said

    def leave(self) -> None:
        """End normally."""
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self.process.stdout.close()

    def kill(self) -> None:
        """End without a word."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def pids(folder: Folder) -> list[int | None]:
    """The servers' pids as their files tell."""
    return [processes.read_pid(folder.postgres / "postmaster.pid"), processes.read_pid(folder.redis / "redis.pid")]


def runs(folder: Folder) -> tuple[bool, bool]:
    """Whether Postgres and Redis run."""
    return is_running(folder), redis_answers(folder)


@pytest.fixture
def data_dir(scratch: Path) -> Iterator[Path]:
    """A folder whose servers are gone after the test, whatever it did."""
    path = scratch / "d"
    yield path
    embedded.release(path)
    folder = Folder(path)
    for program, place in ((postgres_programs() / "postgres", folder.postgres), (redis_program(), folder.redis)):
        for pid in processes.find_in_folder(program, place):
            os.kill(pid, signal.SIGKILL)


def test_one_server_for_all_stopped_by_the_last(data_dir: Path) -> None:
    first = User(data_dir)
    folder = embedded.open_folder(data_dir)
    started = pids(folder)
    second = User(data_dir)
    assert second.said == first.said and pids(folder) == started
    first.leave()
    assert runs(folder) == (True, True)
    psycopg.connect(second.said).close()
    second.leave()
    assert runs(folder) == (False, False)
    log = "".join(file.read_text() for file in (folder.postgres / "log").iterdir())
    assert "database system is shut down" in log and "not properly shut down" not in log


def test_data_and_passwords_outlive_a_restart(data_dir: Path) -> None:
    before = embedded.ensure_running(data_dir)
    with psycopg.connect(before.database_admin_url) as connection:
        connection.execute("CREATE TABLE noetl.kept AS SELECT 42 AS answer")
    embedded.release(data_dir)
    started_at = time.monotonic()
    after = embedded.ensure_running(data_dir)
    assert time.monotonic() - started_at < 2
    assert after == before
    with psycopg.connect(after.database_admin_url) as connection:
        assert connection.execute("SELECT answer FROM noetl.kept").fetchone() == (42,)


def test_many_first_starts_at_once(data_dir: Path) -> None:
    command = [sys.executable, "-c", USER, str(data_dir)]
    env = {**environment(data_dir), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    crowd = [subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) for _ in range(5)]
    said = {process.communicate(timeout=60)[0] for process in crowd}
    assert len(said) == 1 and all(process.returncode == 0 for process in crowd)
    assert runs(Folder(data_dir)) == (False, False)


def test_servers_left_by_a_kill_are_used_again(data_dir: Path) -> None:
    User(data_dir).kill()
    folder = Folder(data_dir)
    left = pids(folder)
    assert runs(folder) == (True, True)
    user = User(data_dir)
    assert pids(folder) == left
    user.leave()
    assert runs(folder) == (False, False)


def test_everything_killed_at_once(data_dir: Path) -> None:
    user = User(data_dir)
    folder = Folder(data_dir)
    with psycopg.connect(embedded.describe(data_dir).database_admin_url) as connection:
        connection.execute("CREATE TABLE noetl.kept AS SELECT 42 AS answer")
    postmaster, redis = (psutil.Process(pid) for pid in pids(folder))
    # Stopped first: a postmaster that sees a child die ends the others by itself.
    postmaster.suspend()
    for process in [*postmaster.children(recursive=True), postmaster, redis]:
        # A backend may be at its end just now.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    user.kill()
    again = embedded.ensure_running(data_dir)
    with psycopg.connect(again.database_admin_url) as connection:
        assert connection.execute("SELECT answer FROM noetl.kept").fetchone() == (42,)
    assert runs(folder) == (True, True)


def test_a_pid_that_is_another_programs_now(data_dir: Path) -> None:
    User(data_dir).leave()
    folder = Folder(data_dir)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (folder.postgres / "postmaster.pid").write_text(f"{stranger.pid}\n{folder.postgres}\n")
        (folder.redis / "redis.pid").write_text(f"{stranger.pid}\n")
        User(data_dir).leave()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("server", [0, 1])
def test_a_dead_server_is_revived(data_dir: Path, server: int) -> None:
    words = embedded.ensure_running(data_dir)
    pid = pids(words.folder)[server]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    embedded.revive(data_dir)
    assert runs(words.folder) == (True, True) and pids(words.folder)[server] != pid


def test_a_hung_redis_is_replaced(data_dir: Path) -> None:
    words = embedded.ensure_running(data_dir)
    pid = pids(words.folder)[1]
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    embedded.revive(data_dir)
    assert runs(words.folder) == (True, True) and pids(words.folder)[1] != pid


def test_an_interrupted_first_start_is_completed(data_dir: Path) -> None:
    words = embedded.ensure_running(data_dir)
    with embedded.connect(words.folder) as connection:
        connection.execute("DROP DATABASE noetl")
        connection.execute("DROP ROLE noetl")
    embedded.release(data_dir)
    (words.folder.root / "postgres.new").mkdir()
    psycopg.connect(embedded.ensure_running(data_dir).database_url).close()


def test_a_fork_holds_on_after_its_parent(data_dir: Path) -> None:
    user = User(data_dir, FORKING_USER)
    user.process.wait(10)
    folder = Folder(data_dir)
    User(data_dir).leave()
    assert runs(folder) == (True, True)
    user.process.stdin.close()
    assert processes.wait_until(lambda: runs(folder) == (False, False), 10)


def test_no_port_is_opened_and_durability_is_on(data_dir: Path) -> None:
    words = embedded.ensure_running(data_dir)
    for pid in pids(words.folder):
        assert not psutil.Process(pid).net_connections("tcp")
    names = ["listen_addresses", "fsync", "full_page_writes", "synchronous_commit", "data_checksums"]
    with embedded.connect(words.folder) as connection:
        shown = [connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
    assert shown == [("",), ("on",), ("on",), ("on",), ("on",)]


def test_servers_on_the_standard_ports_are_left_alone(data_dir: Path) -> None:
    taken = []
    for port in (5432, 6379):
        # Refused where somebody's server is there already: just as good.
        with contextlib.suppress(OSError):
            taken.append(socket.create_server(("127.0.0.1", port)))
    try:
        psycopg.connect(embedded.ensure_running(data_dir).database_url).close()
    finally:
        for listener in taken:
            listener.close()


def test_roles_and_passwords(data_dir: Path) -> None:
    words = embedded.ensure_running(data_dir)
    assert (words.folder.root / "secrets.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(words.database_url, password="guess")
    with psycopg.connect(words.database_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE noetl.mine ()")
    demo = embedded.ensure_database(data_dir, "demo", "noetl_demo")
    assert demo == embedded.ensure_database(data_dir, "demo", "noetl_demo")
    with psycopg.connect(conninfo.make_conninfo(**demo)) as connection:
        connection.execute("CREATE TABLE mine ()")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(conninfo.make_conninfo(**{**demo, "dbname": "noetl"}))


def test_what_a_steps_statement_fails_on_is_not_in_the_servers_log(data_dir: Path) -> None:
    words = embedded.ensure_running(data_dir)
    demo = embedded.ensure_database(data_dir, "demo", "noetl_demo")
    for conninfo_, value in ((conninfo.make_conninfo(**demo), "of-a-step"), (words.database_url, "of-the-platform")):
        with psycopg.connect(conninfo_) as connection, pytest.raises(psycopg.errors.InvalidTextRepresentation):
            connection.execute("SELECT CAST(%s AS text)::int", [value])

    def log() -> str:
        return "".join(file.read_text() for file in (words.folder.postgres / "log").iterdir())

    # It is written by a process of its own; what came second is there only after what came first.
    assert processes.wait_until(lambda: "of-the-platform" in log(), 10)
    assert "of-a-step" not in log()


def test_a_long_path_still_has_short_sockets(scratch: Path) -> None:
    folder = embedded.open_folder(scratch / ("x" * MAX_SOCKET_PATH))
    assert len(str(folder.postgres_socket / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH
    assert folder.postgres_socket != embedded.open_folder(scratch / ("y" * MAX_SOCKET_PATH)).postgres_socket


def test_a_long_path_works(scratch: Path) -> None:
    words = embedded.ensure_running(scratch / ("x" * MAX_SOCKET_PATH))
    try:
        psycopg.connect(words.database_url).close()
    finally:
        embedded.release(words.folder.root)
        for path in sorted(words.folder.sockets.rglob("*"), reverse=True):
            path.rmdir()
        words.folder.sockets.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_as_an_ordinary_user_and_as_root_after_it(scratch: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(scratch, nobody.pw_uid, nobody.pw_gid)
    data_dir = scratch / "d"
    embedded.ensure_running(scratch / "warm")  # Imports what only root may read.
    embedded.release(scratch / "warm")
    for _ in range(2):
        assert in_a_fork_as(nobody, lambda: use_once(data_dir)) == nobody.pw_uid
        assert use_once(data_dir) == nobody.pw_uid
    assert runs(Folder(data_dir)) == (False, False)


def use_once(data_dir: Path) -> int:
    """Start, connect, stop. Returns: whose server it was."""
    words = embedded.ensure_running(data_dir)
    psycopg.connect(words.database_url).close()
    uid: int = psutil.Process(pids(words.folder)[0]).uids().real
    embedded.release(data_dir)
    return uid


def in_a_fork_as(user: pwd.struct_passwd, action: Callable[[], int]) -> int:
    """Run the action in a fork of this process as another user; the interpreter itself may be out of its reach."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            embedded._Uses.descriptors.clear()
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            os.write(writer, str(action()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return int(file.read())


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_nobody_else_can_connect(data_dir: Path) -> None:
    words = embedded.ensure_running(data_dir)
    assert psutil.Process(pids(words.folder)[0]).uids().real != 0
    for place in (words.folder.redis_socket, words.folder.postgres_socket / ".s.PGSQL.5432"):
        assert in_a_fork_as(pwd.getpwnam("nobody"), lambda place=place: refused(place)) == errno.EACCES  # type: ignore[misc]  # a lambda with defaults


def refused(place: Path) -> int:
    """Why a socket cannot be connected to; 0 when it can."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(place))


@pytest.mark.skipif(os.geteuid() != 0, reason="root closes folders to others")
def test_closed_parents_are_opened_for_passing_only(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = scratch / "closed"
    parent.mkdir(mode=0o700)
    words = embedded.ensure_running(parent / "d")
    try:
        psycopg.connect(words.database_url).close()
    finally:
        embedded.release(parent / "d")
    assert parent.stat().st_mode & 0o777 == 0o701
    assert str(parent) in capsys.readouterr().err
