"""POSTGRES: what a step that says `SELECT 1` costs, beside the statement itself on a kept connection."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Final

import psycopg

from benchmarks import playbooks
from benchmarks.bench import Extent, Peers, Scene
from benchmarks.measures.alone import seconds_alone
from benchmarks.measures.throughput import LINE, MILLISECONDS, per_step
from benchmarks.report import Row
from benchmarks.sampling import interleave
from executors.actions.postgres import PostgresAction
from executors.contract import Credential
from noetl_site import embedded

CREDENTIAL: Final = "bench_asked"
ASKED: Final = "SELECT 1"
CALLS: Final = 500


def measure_postgres(here: Scene, _: Peers, extent: Extent) -> Iterator[Row]:
    """A line of steps, and the action alone, on a database of its own role beside the platform's."""
    words = embedded.ensure_database(here.platform.data_dir, CREDENTIAL, CREDENTIAL)
    # The servers are the platform's: to hold on to them would keep them running after it.
    embedded.release(here.platform.data_dir)
    path = here.client.register(playbooks.querying(LINE, CREDENTIAL))
    _store(here, words)
    here.play(path)
    with (
        closing(_connect(words)) as connection,
        closing(_connect(words)) as cleaned,
        closing(PostgresAction()) as action,
    ):
        # Cleaning takes prepared statements away, of which psycopg would not hear.
        cleaned.prepare_threshold = None
        arguments, credential = {"query": ASKED, "auth": CREDENTIAL}, Credential(CREDENTIAL, "postgres", words)
        alone = partial(seconds_alone, action, "postgres", arguments, CALLS, credential)
        ways = {
            "platform": per_step(lambda: here.play(path).seconds, LINE),
            "the action alone": per_step(alone, CALLS),
            "kept connection": per_step(lambda: _timed(lambda: connection.execute(ASKED).fetchall()), CALLS),
            "kept connection, cleaned": per_step(lambda: _timed(lambda: _ask_and_clean(cleaned)), CALLS),
        }
        found = interleave(extent.repeat, ways, MILLISECONDS)
    for name, workload in (("platform", f"line of {LINE} postgres steps"), ("the action alone", "postgres action")):
        for peer in ("kept connection", "kept connection, cleaned"):
            yield Row("POSTGRES", f"{workload}, {ASKED}", found[name], found[peer])


def _connect(words: Mapping[str, str]) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(**words, autocommit=True)  # type: ignore[arg-type]  # libpq's words


def _store(here: Scene, words: Mapping[str, str]) -> None:
    file = here.platform.data_dir / "asked.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(words))
    here.platform.manage("credentials", "set", CREDENTIAL, "--type", "postgres", "--data", str(file))
    file.unlink()


def _ask_and_clean(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute(ASKED).fetchall()
    connection.execute("DISCARD ALL")


def _timed(call: Callable[[], object]) -> float:
    """Seconds of many calls."""
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return time.perf_counter() - begun
