"""Bare psycopg on the platform's Postgres: what a durable commit costs when nothing else is done."""

from __future__ import annotations

import time
from typing import Final

import psycopg

from benchmarks.platform import Platform
from noetl_site import embedded

DATABASE: Final = "bench"


class PostgresPeer:
    """One kept connection to a database of its own, on the same server with the same settings."""

    def __init__(self, platform: Platform) -> None:
        folder = platform.services.folder
        with embedded.connect(folder) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchall():
                connection.execute(f"CREATE DATABASE {DATABASE}")
        self.connection = embedded.connect(folder, DATABASE)
        self.connection.execute("CREATE TABLE IF NOT EXISTS line (id bigserial PRIMARY KEY, data text NOT NULL)")

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

    def _insert(self) -> psycopg.Cursor[tuple[object, ...]]:
        return self.connection.execute("INSERT INTO line (data) VALUES (%s)", ["x" * 100])
