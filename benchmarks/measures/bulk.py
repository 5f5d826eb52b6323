"""BULK: rows from Postgres through DuckDB to Postgres, against psycopg and DuckDB by hand; and the memory of it."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import duckdb
import psutil
import psycopg

from benchmarks import playbooks
from benchmarks.bench import Extent, Scene
from benchmarks.platform import Platform
from benchmarks.report import Row, Target
from benchmarks.sampling import Series, interleave
from noetl_site import embedded

MOST_MB: Final = 400
LOOK_SECONDS: Final = 0.02
DATABASE: Final = "demo"
"""Of the credential `demo_postgres`, which every platform brings."""
TABLES: Final = """
    DROP TABLE IF EXISTS bulk_source, bulk_target, bulk_hand;
    CREATE TABLE bulk_source (id int, name text, price numeric(12, 4), moment timestamp, note text);
    CREATE TABLE bulk_hand (LIKE bulk_source);
    GRANT ALL ON bulk_source TO PUBLIC;
"""
FILL: Final = """
    INSERT INTO bulk_source
    SELECT g, 'name ' || g, mod(g, 1000) / 7.0, timestamp '2020-01-01' + g * interval '1 second',
        repeat(md5(g::text), 2)
    FROM generate_series(1, %s) g
"""
CHANGE: Final = "SELECT id, upper(name) AS name, (price * 2)::DECIMAL(12, 4) AS price, moment, note FROM"


def measure_bulk(here: Scene, extent: Extent) -> Iterator[Row]:
    """Rows a second of each way, and the most memory that the worker and its children held meanwhile."""
    rows = extent.size(1_000_000, 50_000)
    path = here.client.register(playbooks.bulk(CHANGE))
    memory = Series("worker and children", "MB")
    with embedded.connect(here.platform.services.folder, DATABASE) as server:
        server.execute(TABLES)
        server.execute(FILL, [rows])

        def played() -> float:
            with peak_mb(here.platform) as peak:
                seconds = here.play(path).seconds
            memory.samples.append(peak[0])
            return rows / seconds

        def by_hand() -> float:
            begun = time.perf_counter()
            copy_by_hand(server)
            return rows / (time.perf_counter() - begun)

        found = interleave(extent.repeat, {"platform": played, "by hand": by_hand}, "rows/s")
        [(arrived,)] = server.execute("SELECT count(*) FROM bulk_target").fetchall()
        server.execute("DROP TABLE bulk_source, bulk_target, bulk_hand")
    if arrived != rows:
        raise AssertionError(f"{arrived} of {rows} rows arrived")
    yield Row("BULK", f"{rows:,} rows Postgres, DuckDB, Postgres", found["platform"], found["by hand"])
    yield Row("BULK", "most memory meanwhile", memory, target=Target("<=", MOST_MB), figure=max(memory.samples))


def copy_by_hand(server: psycopg.Connection[Any]) -> None:
    """The same with psycopg's COPY and DuckDB in this process: out to a file, through DuckDB, and in again."""
    with tempfile.TemporaryDirectory() as folder:
        out, back = Path(folder, "out.csv"), Path(folder, "back.csv")
        with server.cursor() as cursor, out.open("wb") as file:
            with cursor.copy("COPY bulk_source TO STDOUT (FORMAT csv, HEADER)") as copy:
                for data in copy:
                    file.write(data)
            with duckdb.connect(str(Path(folder, "hand.duckdb")), config={"threads": 2}) as connection:
                file.flush()
                connection.execute(f"CREATE TABLE t AS {CHANGE} read_csv('{out}')")
                connection.execute(f"COPY t TO '{back}' (FORMAT csv, HEADER false)")
        with server.cursor() as cursor, back.open("rb") as file:
            cursor.execute("TRUNCATE bulk_hand")
            with cursor.copy("COPY bulk_hand FROM STDIN (FORMAT csv)") as copy:
                while chunk := file.read(1 << 20):
                    copy.write(chunk)


@contextmanager
def peak_mb(platform: Platform) -> Iterator[list[float]]:
    """The most that the worker and all below it held at one time; pages that they share are counted once."""
    most, over = [0.0], threading.Event()
    worker = next(p for p in platform.process.children() if "celery" in " ".join(p.cmdline()))

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            held = sum(map(_held_bytes, [worker, *worker.children(recursive=True)]))
            most[0] = max(most[0], held / 2**20)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _held_bytes(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_full_info().pss)
    return 0
