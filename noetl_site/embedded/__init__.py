"""Postgres and Redis from wheels, in one data folder, shared by every process of the platform.

Each process that uses them holds a shared lock on `embedded.users`, which its forks inherit and its death gives back.
Whoever lets go last stops the servers. Starting and stopping happen under the exclusive lock `embedded.lock`. Servers
left over by a SIGKILL are found and used again. Knows no Django.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from psycopg import sql

from noetl_site.embedded.account import open_the_way, server_account
from noetl_site.embedded.folder import (
    EmbeddedError,
    Folder,
    keep_secret,
    locked,
    make_private,
    open_folder,
    open_lock,
    owner_of,
)
from noetl_site.embedded.postgres import (
    APPLICATION,
    DATABASE,
    OWNER,
    connect,
    create_database,
    create_databases,
    create_role,
    postgres_answers,
    postgres_programs,
    start_postgres,
    stop_postgres,
)
from noetl_site.embedded.redis import redis_answers, redis_program, start_redis, stop_redis

__all__ = [
    "Embedded",
    "EmbeddedError",
    "Folder",
    "connect",
    "describe",
    "ensure_database",
    "ensure_running",
    "keep_secret",
    "open_folder",
    "release",
    "revive",
]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Where the services of a data folder are, whether they run or not."""

    folder: Folder
    database: dict[str, str]
    """libpq's words for the application's role: host, port, dbname, user, password."""
    database_admin: dict[str, str]
    redis_url: str

    @property
    def database_url(self) -> str:
        """For the application's role."""
        return _url(self.database)

    @property
    def database_admin_url(self) -> str:
        """For the owner of the tables."""
        return _url(self.database_admin)


class _Uses:
    """The folders this process uses, by the descriptor that holds its shared lock."""

    lock = threading.RLock()
    process_ends = False
    descriptors: dict[Folder, int] = {}  # one per process is the point


def describe(data_dir: Path) -> Embedded:
    """What will be in the folder, without starting anything; passwords are made at the first call."""
    folder = open_folder(data_dir)
    host = str(folder.postgres_socket)
    return Embedded(
        folder=folder,
        database=_words(host, DATABASE, APPLICATION, keep_secret(folder, "postgres_application")),
        database_admin=_words(host, DATABASE, OWNER, keep_secret(folder, "postgres_owner")),
        redis_url=f"redis+socket://{quote(str(folder.redis_socket))}",
    )


def ensure_running(data_dir: Path) -> Embedded:
    """Have the services running and hold on to them; the first call of a process looks, later ones do nothing.

    Raises: `EmbeddedError`; what has been made so far is used by the next try.
    """
    embedded = describe(data_dir)
    with _Uses.lock:
        if embedded.folder not in _Uses.descriptors:
            _start(embedded.folder)
    return embedded


def revive(data_dir: Path) -> None:
    """Start again what has died since; for a process that holds on already."""
    folder = open_folder(data_dir)
    with _Uses.lock:
        _start(folder)


def release(data_dir: Path | None = None) -> None:
    """Let go of the services of this folder, or of all; the last process that does so stops them."""
    with _Uses.lock:
        folders = list(_Uses.descriptors) if data_dir is None else [open_folder(data_dir)]
        for folder in folders:
            descriptor = _Uses.descriptors.pop(folder, None)
            if descriptor is None:
                continue
            # Closed, not unlocked: forks hold the same lock through descriptors of their own.
            os.close(descriptor)
            with locked(folder.root / "embedded.lock"):
                _stop_if_unused(folder)


def ensure_database(data_dir: Path, name: str, role: str) -> dict[str, str]:
    """A database of its own role beside the platform's. Returns: libpq's words to connect."""
    folder = ensure_running(data_dir).folder
    password = keep_secret(folder, f"postgres_role_{role}")
    with locked(folder.root / "embedded.lock"), connect(folder) as connection:
        create_role(connection, role, password)
        create_database(connection, name, role)
        # What a statement of a step fails on may be a secret, and the server would write it into its log.
        quiet = sql.SQL("ALTER ROLE {} SET log_min_messages = 'fatal'")
        connection.execute(quiet.format(sql.Identifier(role)))
    return _words(str(folder.postgres_socket), name, role, password)


def _start(folder: Folder) -> None:
    if _Uses.process_ends:
        # A thread that is still at work: nobody would stop what it starts.
        raise EmbeddedError("this process is ending and has let go of the embedded services")
    with locked(folder.root / "embedded.lock"):
        if folder not in _Uses.descriptors:
            descriptor = open_lock(folder.root / "embedded.users")
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            _Uses.descriptors[folder] = descriptor
        try:
            _start_servers(folder)
        except BaseException:
            # Also when interrupted half-way: what has been started belongs to somebody or is stopped.
            os.close(_Uses.descriptors.pop(folder))
            _stop_if_unused(folder)
            raise


def _start_servers(folder: Folder) -> None:
    has_postgres, has_redis = postgres_answers(folder), redis_answers(folder)
    if has_postgres and has_redis:
        return
    account = server_account(folder)
    make_private(folder.sockets, 0o700 if account is None else 0o711, owner_of(folder.root))
    if account is not None:
        open_the_way([folder.root, folder.sockets, postgres_programs(), redis_program().parent])
    if not has_postgres:
        start_postgres(folder, account)
        create_databases(folder)
    if not has_redis:
        start_redis(folder, account)


def _stop_if_unused(folder: Folder) -> None:
    descriptor = open_lock(folder.root / "embedded.users")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        stop_redis(folder)
        stop_postgres(folder, server_account(folder))
    finally:
        os.close(descriptor)


def _words(host: str, dbname: str, user: str, password: str) -> dict[str, str]:
    return {"host": host, "port": "5432", "dbname": dbname, "user": user, "password": password}


def _url(words: dict[str, str]) -> str:
    return f"postgresql://{words['user']}:{words['password']}@/{words['dbname']}?host={quote(words['host'], safe='')}"


@atexit.register
def _release_for_good() -> None:
    _Uses.process_ends = True
    release()
