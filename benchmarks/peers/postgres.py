"""Bare psycopg on the platform's Postgres: what a durable commit costs when nothing else is done."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import Final

import psycopg

from benchmarks.platform import WORKERS, Platform
from noetl_site import embedded
from noetl_site.embedded.postgres import postgres_programs

DATABASE: Final = "bench"
TABLES: Final = """
    CREATE TABLE IF NOT EXISTS line (id bigserial PRIMARY KEY, data text NOT NULL);
    CREATE TABLE IF NOT EXISTS job (id bigserial PRIMARY KEY, status text NOT NULL, token uuid, data jsonb NOT NULL);
    CREATE INDEX IF NOT EXISTS job_ready ON job (id) WHERE status = 'queued';
    CREATE TABLE IF NOT EXISTS lease (job bigint NOT NULL, token uuid NOT NULL, ended boolean NOT NULL);
    CREATE INDEX IF NOT EXISTS lease_job ON lease (job);
    CREATE TABLE IF NOT EXISTS event (id bigserial PRIMARY KEY, job bigint NOT NULL, type text NOT NULL, data jsonb);
    CREATE TABLE IF NOT EXISTS run (id bigint PRIMARY KEY, state jsonb NOT NULL);
    INSERT INTO run VALUES (1, '{}') ON CONFLICT DO NOTHING;
"""
LEASE: Final = """
    WITH next AS (SELECT id FROM job WHERE status = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
    taken AS (UPDATE job SET status = 'leased', token = gen_random_uuid() FROM next WHERE job.id = next.id
              RETURNING job.id, job.token),
    kept AS (INSERT INTO lease SELECT id, token, false FROM taken)
    SELECT id, token FROM taken
"""
FINISH: Final = (
    "SELECT state FROM run WHERE id = 1 FOR UPDATE",
    "UPDATE job SET status = 'done', token = NULL WHERE id = %(id)s AND token = %(token)s",
    "UPDATE lease SET ended = true WHERE job = %(id)s",
    "INSERT INTO event (job, type, data) VALUES (%(id)s, 'started', NULL), (%(id)s, 'completed', '1')",
    """UPDATE run SET state = jsonb_build_object('done', %(id)s::bigint) WHERE id = 1""",
)


class PostgresPeer:
    """One kept connection to a database of its own, on the same server with the same settings."""

    def __init__(self, platform: Platform) -> None:
        folder = platform.services.folder
        with embedded.connect(folder) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchall():
                connection.execute(f"CREATE DATABASE {DATABASE}")
        self.connection = embedded.connect(folder, DATABASE)
        self.connection.execute(TABLES)
        self._folder = folder

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def commits(self, rows: int) -> float:
        """Seconds of so many transactions, each begun, inserting one row, and committed."""
        self.connection.autocommit = False
        begun = time.perf_counter()
        for _ in range(rows):
            self._insert()
            self.connection.commit()
        return time.perf_counter() - begun

    def inserts(self, rows: int) -> float:
        """Seconds of so many inserts that commit by themselves."""
        self.connection.autocommit = True
        begun = time.perf_counter()
        for _ in range(rows):
            self._insert()
        return time.perf_counter() - begun

    def leases(self, jobs: int) -> float:
        """Seconds of leasing and finishing so many jobs: two transactions each, as the platform does it."""
        self.connection.autocommit = True
        self.connection.execute(
            "INSERT INTO job (status, data) SELECT 'queued', '{}' FROM generate_series(1, %s)", [jobs]
        )
        self.connection.autocommit = False
        begun = time.perf_counter()
        for _ in range(jobs):
            [(id_, token)] = self.connection.execute(LEASE).fetchall()
            self.connection.commit()
            for statement in FINISH:
                self.connection.execute(statement, {"id": id_, "token": token})
            self.connection.commit()
        return time.perf_counter() - begun

    def pgbench(self, seconds: int) -> float | None:
        """Transactions a second of Postgres' own benchmark, its short writing form; None when it is not installed."""
        program = postgres_programs() / "pgbench"
        if not program.exists():
            return None
        words = ["-h", str(self._folder.postgres_socket), "-p", "5432", "-U", "postgres", DATABASE]
        env = os.environ | {"PGPASSWORD": embedded.keep_secret(self._folder, "postgres_superuser")}
        subprocess.run([program, "-i", "-q", *words], check=True, capture_output=True, env=env)
        clients = ["-N", "-n", "-M", "prepared", "-c", str(WORKERS), "-T", str(seconds)]
        said = subprocess.run([program, *clients, *words], check=True, capture_output=True, env=env, text=True).stdout
        found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
        return float(found[1]) if found else None

    def _insert(self) -> psycopg.Cursor[tuple[object, ...]]:
        return self.connection.execute("INSERT INTO line (data) VALUES (%s)", ["x" * 100])
