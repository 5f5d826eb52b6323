"""The data folder: where each thing of the embedded services lies, and the passwords made for them.

Knows paths and the secrets file; nothing of Postgres or Redis. Everything here is a function of the folder's path, so
settings can name a database before any server runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAX_SOCKET_PATH: Final = 107
"""Linux keeps a socket's path in 108 bytes, the last one being a zero."""


class EmbeddedError(Exception):
    """The embedded services cannot be used; the message says why and what to do."""

    code = "embedded_services"


@dataclass(frozen=True, slots=True)
class Folder:
    """The places in one data folder."""

    root: Path

    @property
    def postgres(self) -> Path:
        """The database cluster."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """Configuration, pid and log of Redis."""
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        """Logs of the platform's own processes."""
        return self.root / "logs"

    @property
    def sockets(self) -> Path:
        """The folder of the socket folders: in the data folder, or a short one when its path is too long."""
        inside = self.root / "run"
        if len(os.fsencode(inside / "postgres" / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        # Not TMPDIR: every process must find the same place.
        return Path("/tmp") / f"noetl-{digest}"  # noqa: S108  # its owner is checked

    @property
    def postgres_socket(self) -> Path:
        """The folder of Postgres' socket: what libpq calls the host."""
        return self.sockets / "postgres"

    @property
    def redis_socket(self) -> Path:
        """The socket of Redis itself."""
        return self.sockets / "redis" / "redis.sock"


def open_folder(path: Path) -> Folder:
    """The data folder at `path`, made when it is missing. Raises: `EmbeddedError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under root the servers run as another user, who must pass through.
        path.mkdir(mode=0o700 if os.geteuid() else 0o711, exist_ok=True)
        root = path.resolve()
        if os.geteuid() not in (0, root.stat().st_uid):
            raise EmbeddedError(f"the data folder {root} belongs to another user; name your own in NOETL_DATA_DIR")
    except OSError as error:
        raise EmbeddedError(f"the data folder {path} cannot be used: {error.strerror}") from error
    return Folder(root)


def make_private(path: Path, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make the folder with this mode and owner; one that somebody else has put there is refused.

    Raises: `EmbeddedError`.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    allowed = {0, os.geteuid()} | ({owner[0]} if owner else set())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in allowed:
        raise EmbeddedError(f"{path} belongs to somebody else")
    if owner and found.st_uid != owner[0]:
        os.chown(path, *owner)
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def owner_of(folder: Path) -> tuple[int, int] | None:
    """Whose folder this is, when root works in an ordinary user's: what is made there must stay that user's."""
    found = folder.stat()
    return (found.st_uid, found.st_gid) if os.geteuid() == 0 and found.st_uid != 0 else None


def open_lock(path: Path) -> int:
    """A descriptor of a lock file, which is made when it is missing."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if owner := owner_of(path.parent):
        os.fchown(descriptor, *owner)
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file exclusively; a process that dies lets go of it."""
    descriptor = open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_secrets(folder: Folder) -> dict[str, Any]:
    """What the secrets file holds; empty when there is none."""
    try:
        content: dict[str, Any] = json.loads((folder.root / "secrets.json").read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"{folder.root / 'secrets.json'} cannot be read: {error}") from error
    return content


def keep_secret(folder: Folder, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> str:
    """The secret of this name, made and kept at the first call."""
    if name not in (known := read_secrets(folder)):
        with locked(folder.root / "secrets.lock"):
            known = read_secrets(folder)
            if name not in known:
                known[name] = make()
                _write_secrets(folder, known)
    return str(known[name])


def _write_secrets(folder: Folder, content: dict[str, Any]) -> None:
    """Replace the file in one step: whoever reads sees the old one or the new one."""
    new = folder.root / "secrets.json.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    if owner := owner_of(folder.root):
        os.fchown(descriptor, *owner)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(descriptor)
    new.replace(folder.root / "secrets.json")
