"""The fault suite's own tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.pytests import run_pytest
from tests.settings import FOLDER

LOOK = f"import os\n\ndef test_folder():\n    assert {FOLDER!r} not in os.environ\n"


def test_a_run_of_tests_does_not_get_the_callers_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would remove it at its end, with the servers that the caller goes on to use."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    (tmp_path / "test_folder.py").write_text(LOOK)
    done = run_pytest(tmp_path, ["-p", "no:django", "test_folder.py"], seconds=60)
    assert done.returncode == 0, done.stdout
