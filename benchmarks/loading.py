"""Fills a platform's tables with executions that look as if they had run: copies of some that did.

A copy lies a little earlier than the one before: the same distance is taken off all its ids, which are in the order of
time, and off all its times. So ids stay distinct and rows go on referring to one another.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

from benchmarks import playbooks
from benchmarks.bench import Scene
from benchmarks.database import Database

TABLES: Final = {
    "execution": "id",
    "event_log": "execution_id",
    "queue": "execution_id",
    "lease_history": "execution_id",
}
"""By the column that names the execution."""
IDS: Final = {"id", "event_id", "execution_id", "parent_event_id", "job_id"}
LENGTHS: Final = (2, 3)
"""Steps of the copied executions: 20 events each, about."""


def fill(scene: Scene, executions: int) -> tuple[int, int]:
    """Have so many executions that are over. Returns: how many executions and events there are then."""
    database = scene.database
    for length in LENGTHS:
        ended = scene.play(scene.client.register(playbooks.linear(length)))
        # All of its ids and times lie within this.
        milliseconds = int(ended.seconds * 1000) + 1000
        for table, key in TABLES.items():
            _copy(database, table, key, ended.id, executions // len(LENGTHS), milliseconds)
    for table in TABLES:
        # As autovacuum would leave it, and as it would otherwise begin to do while something is measured.
        database.run(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    database.run("CHECKPOINT")
    [found] = database.rows("SELECT (SELECT count(*) FROM execution), (SELECT count(*) FROM event_log)")
    return found[0], found[1]


def _copy(database: Database, table: str, key: str, execution: int, copies: int, milliseconds: int) -> None:
    columns = database.rows(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'noetl' AND table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position",
        table,
    )
    names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
    values = sql.SQL(", ").join(_shifted(name, kind) for name, kind in columns)
    statement = sql.SQL(
        "INSERT INTO {table} ({names}) SELECT {values} FROM {table} AS row,"
        " (SELECT n, n * ({milliseconds}::bigint << 20) AS ids, n * {milliseconds} * interval '1 millisecond' AS past"
        " FROM generate_series(1, {copies}) AS n) AS copy WHERE row.{key} = {execution}"
    )
    database.run(
        statement.format(
            table=sql.Identifier(table),
            names=names,
            values=values,
            key=sql.Identifier(key),
            execution=sql.Literal(execution),
            milliseconds=sql.Literal(milliseconds),
            copies=sql.Literal(copies),
        )
    )


def _shifted(name: str, kind: str) -> sql.Composable:
    """The copy's value of a column."""
    column = sql.SQL("row.") + sql.Identifier(name)
    if name in IDS:
        return column + sql.SQL(" - ids")
    if kind == "timestamp with time zone":
        return column + sql.SQL(" - past")
    if name == "node_id":
        parts = {"node": column}
        return sql.SQL(
            "split_part({node}, ':', 1)::bigint - ids || substr({node}, length(split_part({node}, ':', 1)) + 1)"
        ).format(**parts)
    return column
