"""Failpoints: nothing unless switched on, one hit per file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.db import OperationalError

from executions import failpoints
from executions.failpoints import POINTS, failpoint
from tests.support.inspection import wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(failpoints, "folder", tmp_path)
    return tmp_path


def test_switched_off_no_point_does_anything() -> None:
    assert failpoints.folder is None
    for point in POINTS:
        failpoint(point)


def test_a_point_that_is_not_armed_does_nothing(folder: Path) -> None:
    (folder / "report.before").write_text("error")
    failpoint("report.inside")
    assert [file.name for file in folder.iterdir()] == ["report.before"]


def test_an_error_is_a_database_that_has_gone_and_comes_once(folder: Path) -> None:
    (folder / "report.before").write_text("error\n")
    with pytest.raises(OperationalError, match=r"report\.before"):
        failpoint("report.before")
    failpoint("report.before")
    assert [file.name for file in folder.iterdir()] == [f"report.before.reached.{os.getpid()}"]


def test_of_many_one_claims_a_hit(folder: Path) -> None:
    (folder / "lease.before").write_text("error")
    together = threading.Barrier(8)
    hits: list[str] = []

    def come() -> None:
        together.wait()
        try:
            failpoint("lease.before")
        except OperationalError as error:
            hits.append(str(error))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hits) == 1


def test_a_pause_ends_when_let_go_and_not_before(folder: Path) -> None:
    (folder / "reap.between").write_text("pause")
    paused = threading.Thread(target=failpoint, args=["reap.between"])
    paused.start()
    wait_for(lambda: list(folder.glob("reap.between.reached.*")))
    assert paused.is_alive()
    (folder / "reap.between.go").touch()
    paused.join(10)
    assert not paused.is_alive()


def test_a_pause_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "PAUSE_SECONDS", 0.05)
    (folder / "reap.between").write_text("pause")
    failpoint("reap.between")
    assert list(folder.glob("reap.between.reached.*"))


def test_an_unknown_demand_is_a_mistake(folder: Path) -> None:
    (folder / "reap.between").write_text("explode")
    with pytest.raises(ValueError, match="explode"):
        failpoint("reap.between")


def test_a_kill_is_a_kill(tmp_path: Path) -> None:
    (tmp_path / "lease.after").write_text("kill")
    code = "from executions.failpoints import failpoint; failpoint('lease.before'); failpoint('lease.after')"
    env = {**os.environ, "NOETL_FAILPOINTS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("value", "warned"), [("/some/where", True), ("", False)])
def test_a_deployment_is_warned(monkeypatch: pytest.MonkeyPatch, value: str, warned: bool) -> None:
    monkeypatch.setenv("NOETL_FAILPOINTS", value)
    messages = run_checks(include_deployment_checks=True)
    assert ("noetl_site.W002" in {message.id for message in messages}) is warned
