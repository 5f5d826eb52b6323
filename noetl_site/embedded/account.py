"""Under whose name the servers run, and what that account must be able to reach.

Postgres refuses to run as root, and Redis has no business there either. As an ordinary user the servers run as that
user and nothing here does anything.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noetl_site.embedded.folder import EmbeddedError, Folder, owner_of

SERVER_ACCOUNT: Final = "pgserver"
SERVER_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""What a server is started with: nothing of ours, as whoever shares its user can read it."""
TRAVERSE: Final = stat.S_IXOTH
READ_AND_TRAVERSE: Final = stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Account:
    """A system user that is not this process's own."""

    uid: int
    gid: int

    @property
    def owner(self) -> tuple[int, int]:
        """For `chown`."""
        return self.uid, self.gid


def server_account(folder: Folder) -> Account | None:
    """Whose servers these are; None for this process's own user. Raises: `EmbeddedError`."""
    if os.geteuid() != 0:
        return None
    if owner := owner_of(folder.root):
        return Account(*owner)
    if folder.postgres.is_dir() and (owner := owner_of(folder.postgres)):
        return Account(*owner)
    try:
        entry = pwd.getpwnam(SERVER_ACCOUNT)
    except KeyError:
        entry = _create_account()
    return Account(entry.pw_uid, entry.pw_gid)


def _create_account() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SERVER_ACCOUNT]
    try:
        # A failure may be another process having been quicker: the look-up below decides.
        subprocess.run(command, check=False, capture_output=True)
        return pwd.getpwnam(SERVER_ACCOUNT)
    except (OSError, KeyError):
        raise EmbeddedError(
            f"Postgres does not run as root and the system user {SERVER_ACCOUNT!r} could not be created; "
            "create it, run as an ordinary user, or set DATABASE_URL and REDIS_URL"
        ) from None


def run_as(account: Account | None) -> dict[str, Any]:
    """Keyword arguments for `subprocess` that start a process under the account."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def open_the_way(paths: Sequence[Path]) -> None:
    """Let other users traverse (never list) every folder above the paths; tells what it changed."""
    for folder in {parent for path in paths for parent in (path, *path.parents)}:
        mode = folder.stat().st_mode
        if folder.is_dir() and not mode & TRAVERSE:
            folder.chmod(stat.S_IMODE(mode) | TRAVERSE)
            print(f"{folder}: mode o+x added, so that the database's user can pass through", file=sys.stderr)


def open_for_reading(tree: Path, samples: Sequence[Path]) -> None:
    """Let other users read a tree of programs, when one of the samples shows that they cannot."""
    if all(sample.stat().st_mode & stat.S_IROTH for sample in samples):
        return
    for path in (tree, *tree.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            wanted = READ_AND_TRAVERSE if mode & stat.S_IXUSR else stat.S_IROTH
            path.chmod(stat.S_IMODE(mode) | wanted)
    print(f"{tree}: made readable, so that the database's user can run it", file=sys.stderr)
