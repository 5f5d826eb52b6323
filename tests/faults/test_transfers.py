"""A transfer whose worker is killed in the middle ends with every row once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from noetl_site import embedded
from tests.faults.faulty import Faulty
from tests.support.inspection import run_json, wait_for

ROWS: Final = 200_000
PASSWORD: Final = "pass-of-the-mover"
PLAYBOOK: Final = """
apiVersion: noetl.io/v1
kind: Playbook
name: moving
path: tests/moving
workflow:
  - step: start
    type: transfer
    source: {type: postgres, auth: mover, query: "SELECT id, name FROM origin WHERE id > :least"}
    params: {least: 0}
    target: {type: postgres, auth: mover, table: arrived}
    mapping: {n: id, name: name}
    key: id
    chunk_size: 500
    next: end
  - step: end
    result: {rows: "{{ start.rows }}", chunks: "{{ start.chunks }}", resumed: "{{ start.resumed_from > 0 }}"}
"""


GATE: Final = f"""
CREATE TABLE arrived (n int, name text);
CREATE TABLE opened (n int);
CREATE FUNCTION wait_in_the_middle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM opened) AND (SELECT count(*) FROM arrived) >= {ROWS // 2} THEN
        PERFORM pg_advisory_xact_lock(1);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER gate BEFORE INSERT ON arrived FOR EACH STATEMENT EXECUTE FUNCTION wait_in_the_middle();
"""
"""No key in the target: a row that came twice would be there twice. Half of them wait for whoever holds the lock."""


@contextmanager
def connected(faulty: Faulty) -> Iterator[psycopg.Connection[Any]]:
    host = str(embedded.open_folder(faulty.platform.data_dir).postgres_socket)
    with psycopg.connect(host=host, user="mover", password=PASSWORD, dbname="mover", autocommit=True) as connection:
        yield connection


def test_a_transfer_killed_in_the_middle_ends_with_every_row_once(killable: Faulty, tmp_path: Path) -> None:
    killable.order(f"CREATE ROLE mover LOGIN PASSWORD '{PASSWORD}'")
    killable.order("CREATE DATABASE mover OWNER mover")
    host = str(embedded.open_folder(killable.platform.data_dir).postgres_socket)
    data = {"db_host": host, "db_user": "mover", "db_password": PASSWORD, "db_name": "mover"}
    (tmp_path / "mover.json").write_text(json.dumps(data))
    killable.platform.manage(
        "credentials", "set", "mover", "--type", "postgres", "--data", str(tmp_path / "mover.json")
    )
    (tmp_path / "moving.yaml").write_text(PLAYBOOK)
    with connected(killable) as connection:
        connection.execute(GATE.encode())
        connection.execute(b"SELECT pg_advisory_lock(1)")
        made = f"CREATE TABLE origin AS SELECT n AS id, 'name ' || n AS name FROM generate_series(1, {ROWS}) n"
        connection.execute(made.encode())

        def arrived() -> int:
            row = connection.execute(b"SELECT count(*) FROM arrived").fetchone()
            return int(row[0]) if row else 0

        def is_waiting() -> bool:
            row = connection.execute(b"SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
            return row is not None

        execution_id = run_json(killable.platform, str(tmp_path / "moving.yaml"))["execution_id"]
        worker = killable.holder_of(execution_id)
        wait_for(is_waiting)
        worker.kill()
        worker.wait(10)
        assert arrived() == ROWS // 2
        connection.execute(b"INSERT INTO opened VALUES (1)")
        connection.execute(b"SELECT pg_advisory_unlock(1)")
        result = {"rows": ROWS, "chunks": ROWS // 500, "resumed": True}
        killable.check_completed(execution_id, result=result)
        assert killable.endings_of(execution_id, "start") == ["lost", "done"]
        counted = connection.execute(b"SELECT count(*), count(DISTINCT n), min(n), max(n) FROM arrived").fetchone()
        assert counted == (ROWS, ROWS, 1, ROWS)
