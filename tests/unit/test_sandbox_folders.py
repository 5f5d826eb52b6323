"""Folders of jobs go with the process that made them: what a killed one leaves is swept, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from executors.sandbox.folders import PREFIX, JobFolders, sweep

MAKES = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from executors.sandbox.folders import JobFolders
folders = JobFolders()
print(folders.make(None).path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_process_left_is_swept_and_no_sooner(place: Path) -> None:
    command = [sys.executable, "-c", MAKES, str(place)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]  # two pipes
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (folder / "left").write_text("of a job")
        assert sweep() == 0
        assert (folder / "left").exists()
        process.kill()
        process.wait()
    assert folder.exists(), "nobody was there to remove it"
    assert sweep() == 1
    assert list(place.iterdir()) == []


def test_a_fork_keeps_no_folder_of_its_parents(place: Path) -> None:
    folders = JobFolders()
    mine = Path(folders.make(None).path)
    pid = os.fork()
    if pid == 0:
        folders.leave()
        other = Path(folders.make(None).path)
        os._exit(0 if other.parent != mine.parent else 1)
    assert os.waitpid(pid, 0)[1] == 0
    # The fork's is left, as it is gone; this process's own is in use.
    assert sweep() == 1
    assert [*place.iterdir()] == [mine.parent]
    mine.rmdir()
    folders.close()
    assert list(place.iterdir()) == []


def test_folders_are_made_again_where_somebody_cleared_them_away(place: Path) -> None:
    folders = JobFolders()
    first = Path(folders.make(None).path)
    first.rmdir()
    first.parent.rmdir()
    assert Path(folders.make(None).path).is_dir()
    folders.leave()


def test_nothing_else_is_swept(place: Path) -> None:
    kept = [place / "noetl-job-old", place / "elsewhere"]
    for folder in kept:
        (folder / "inside").mkdir(parents=True)
    (place / f"{PREFIX}link").symlink_to(place / "elsewhere")
    (place / f"{PREFIX}file").write_text("x")
    if os.geteuid() == 0:
        foreign = place / f"{PREFIX}foreign"
        foreign.mkdir()
        os.chown(foreign, 12345, 12345)
        kept.append(foreign)
    assert sweep() == 0
    assert all(folder.is_dir() for folder in kept)
    assert (place / "elsewhere" / "inside").is_dir()
    assert (place / f"{PREFIX}file").exists()


def test_a_job_cannot_reach_the_folder_around_its_own(place: Path) -> None:
    """Under root its user may pass through, and neither write there nor see what else there is."""
    folders = JobFolders()
    around = Path(folders.make(None).path).parent
    assert around.stat().st_mode & 0o777 == 0o711
    folders.leave()
