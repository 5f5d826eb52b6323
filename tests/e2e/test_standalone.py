"""`manage.py standalone` and `demo` as a user starts them: ready, whole, and gone without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from executors.durability import MARK
from noetl_site import embedded
from noetl_site.embedded import processes
from noetl_site.embedded.folder import Folder
from noetl_site.embedded.postgres import is_running
from noetl_site.embedded.redis import redis_answers
from tests.support import seeding
from tests.support.inspection import call
from tests.support.platform import ROOT, Platform, environment, first_platform, running_platform, temporary_data_dir


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


def manage(data_dir: Path, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    return subprocess.run(
        command, check=False, cwd=ROOT, env=environment(data_dir), capture_output=True, text=True, timeout=timeout
    )


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url) as reply:
        return reply.status, reply.read().decode()


def named(running: Platform, word: str) -> list[psutil.Process]:
    """The supervisor's own children with this word in their title."""
    children = psutil.Process(running.process.pid).children()
    return [child for child in children if word in _command_line(child)]


def _listens(running: Platform, word: str) -> bool:
    """Whether a program holds the console's port."""
    port = urlsplit(running.ready["url"]).port
    [program] = named(running, word)
    sockets = program.net_connections(kind="tcp")
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)


def _command_line(process: psutil.Process) -> str:
    """Empty for one that is gone or a zombie."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_ready_then_stopped_with_nothing_left(data_dir: Path) -> None:
    with first_platform(data_dir) as running:
        url = running.ready["url"]
        assert get(f"{url}/api/health/ready") == (200, json.dumps({"status": "ok", "database": "ok"}))
        status, page = get(f"{url}/")
        assert status == 200 and "NoETL" in page
        styles = re.findall(r'href="(/static/[^"]+\.css)', page)
        assert styles and get(url + styles[0])[0] == 200
        assert running.ready["admin"]["username"] == "admin" and len(running.ready["admin"]["password"]) >= 12
        assert Path(running.ready["data_dir"]) == data_dir
        assert call(running, "GET", "executions") == []
        assert [word for word in ("gunicorn", "celery", "reconcile") if _listens(running, word)] == ["gunicorn"]
        everything = running.children()
    assert not [process for process in everything if process.is_running()]
    assert not is_running(Folder(data_dir)) and not redis_answers(Folder(data_dir))
    with running_platform(data_dir) as again:
        assert again.ready["admin"]["password"] is None and again.ready["token"] is None


def test_a_dead_child_is_started_again(data_dir: Path) -> None:
    with running_platform(data_dir) as running:
        for word in ("gunicorn", "celery", "reconcile"):
            [child] = named(running, word)
            child.kill()
            assert processes.wait_until(lambda w=word, c=child: bool(set(named(running, w)) - {c}), 15)  # type: ignore[misc]  # a lambda with defaults


def test_killed_supervisor_takes_everything_with_it(data_dir: Path) -> None:
    with running_platform(data_dir) as running:
        everything = running.children()
        running.process.kill()
        assert processes.wait_until(lambda: not any(_alive(process) for process in everything), 30)
    assert processes.wait_until(lambda: not is_running(Folder(data_dir)), 20)


def test_everything_killed_then_started_again(data_dir: Path) -> None:
    with running_platform(data_dir) as running:
        for process in [psutil.Process(running.process.pid), *running.children()]:
            process.kill()
        running.process.wait()
    with running_platform(data_dir) as again:
        assert again.ready["admin"]["password"] is None


def test_ctrl_c_stops_cleanly(data_dir: Path) -> None:
    with running_platform(data_dir, "--no-web", "--workers", "0") as running:
        assert running.ready["url"] is None
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0


def test_a_taken_port_is_told(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = manage(data_dir, "standalone", "--port", str(port))
    assert result.returncode == 1
    assert str(port) in result.stderr and "--port" in result.stderr and "Traceback" not in result.stderr


def test_a_server_that_may_lose_results_is_refused_and_told_of(data_dir: Path) -> None:
    seeding.seed(data_dir, environment(data_dir))
    try:
        with embedded.connect(embedded.ensure_running(data_dir).folder) as connection:
            connection.execute(f"ALTER SYSTEM RESET {MARK}".encode())
            connection.execute("SELECT pg_reload_conf()")
    finally:
        embedded.release(data_dir)
    result = manage(data_dir, "standalone", "--port", "0")
    assert result.returncode == 1
    assert "error" in result.stderr.lower() and "fsync = off and full_page_writes = off" in result.stderr
    assert "ready" not in result.stdout and "Traceback" not in result.stderr
    assert not is_running(Folder(data_dir))
    log = data_dir / "reconcile.txt"
    command = [sys.executable, str(ROOT / "manage.py"), "reconcile"]
    with log.open("w") as told, subprocess.Popen(command, cwd=ROOT, env=environment(data_dir), stderr=told) as process:
        found = processes.wait_until(lambda: "with fsync = off: a crash loses" in log.read_text(), 30)
        process.terminate()
    assert found, log.read_text()


def test_demo_runs_and_exits(data_dir: Path) -> None:
    result = manage(data_dir, "demo", "--port", "0", "--exit")
    assert result.returncode == 0, result.stderr
    assert "1461 rows read" in result.stdout
    assert not is_running(Folder(data_dir))


def test_a_database_without_tables_is_told(data_dir: Path) -> None:
    result = manage(data_dir, "verify")
    assert result.returncode == 1
    assert "manage.py migrate --database admin" in result.stderr and "Traceback" not in result.stderr


def test_commands_that_need_no_database_start_none(data_dir: Path) -> None:
    for arguments in (["check"], ["--help"], ["validate", "examples/hello.yaml"], ["schema"]):
        assert manage(data_dir, *arguments).returncode == 0
    assert not (data_dir / "postgres").exists()


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_broken_pipe_is_quiet(data_dir: Path) -> None:
    command = [sys.executable, str(ROOT / "manage.py"), "schema"]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(command, cwd=ROOT, env=environment(data_dir), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert b"Traceback" not in process.communicate(timeout=30)[1]
