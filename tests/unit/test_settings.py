"""Settings that are wrong are told when anything starts, by their names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from noetl_site.environment import database_from_url, one_of

ROOT = Path(__file__).resolve().parents[2]


def test_one_of_knows_its_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOETL_COLOUR", raising=False)
    assert one_of("NOETL_COLOUR", ("red", "blue"), default="blue") == "blue"
    monkeypatch.setenv("NOETL_COLOUR", "red")
    assert one_of("NOETL_COLOUR", ("red", "blue"), default="blue") == "red"
    monkeypatch.setenv("NOETL_COLOUR", "green")
    with pytest.raises(ImproperlyConfigured, match="NOETL_COLOUR is none of red, blue: 'green'"):
        one_of("NOETL_COLOUR", ("red", "blue"), default="blue")


def test_a_database_that_does_not_answer_is_given_up_in_time() -> None:
    options = database_from_url("postgresql://u:p@db/noetl", {})["OPTIONS"]
    watched = {"keepalives": 1, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
    assert options.items() >= {**watched, "tcp_user_timeout": 30_000}.items()
    own = database_from_url("postgresql://u:p@db/noetl?keepalives_idle=60&tcp_user_timeout=0", {})["OPTIONS"]
    assert (str(own["keepalives_idle"]), str(own["tcp_user_timeout"]), own["keepalives_count"]) == ("60", "0", 3)


def test_the_python_level_is_not_below_the_least(tmp_path: Path) -> None:
    given = {"NOETL_DATA_DIR": str(tmp_path), "NOETL_PYTHON_ISOLATION_LEAST": "job"}
    done = subprocess.run(
        [sys.executable, "-c", "import noetl_site.settings"],
        cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "NOETL_PYTHON_ISOLATION is turn, below NOETL_PYTHON_ISOLATION_LEAST, which is job" in done.stderr
