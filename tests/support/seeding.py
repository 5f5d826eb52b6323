"""Data folders that begin with a database made already: a copy of one that is made once per run.

To make a cluster and its tables takes seconds, and is what the tests of first starts are about; the others have
something else in mind. Only pytest asks for it (`copy_from`): what else starts platforms here starts them as users do.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from executors.durability import MARK
from noetl_site import embedded
from noetl_site.embedded.folder import locked

_places: list[Path] = []


def copy_from(place: Path) -> None:
    """Seed data folders from now on, out of this folder; it is made when the first one is wanted."""
    _places[:] = [place]


def seed(data_dir: Path, env: dict[str, str]) -> None:
    """Put a database into a data folder that has none. `env` is that of a command there."""
    if not _places or (data_dir / "secrets.json").exists():
        return
    [place] = _places
    with locked(place.with_suffix(".lock")):
        if not (place / "made").exists():
            _make(place, {**env, "NOETL_DATA_DIR": str(place)})
    for name in ("postgres", "secrets.json"):
        subprocess.run(["cp", "-a", "--reflink=auto", str(place / name), str(data_dir)], check=True)


def hurry(folder: embedded.Folder) -> None:
    """Let a test server not wait for its disk: processes are killed here, but no test cuts the power."""
    with embedded.connect(folder) as connection:
        for name in ("fsync", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off".encode())
        # Else `standalone` and `migrate` would refuse it, and everybody's log tell of it.
        connection.execute(f"ALTER SYSTEM SET {MARK} = on".encode())
        connection.execute("SELECT pg_reload_conf()")


def _make(place: Path, env: dict[str, str]) -> None:
    running = embedded.ensure_running(place)
    try:
        command = [sys.executable, "manage.py", "migrate", "-v", "0"]
        subprocess.run(command, cwd=Path(__file__).parents[2], env=env, check=True, capture_output=True)
        hurry(running.folder)
    finally:
        embedded.release(place)
    (place / "made").touch()
