"""Opens one DuckDB file for a step, attaches what the step names, and confines what its SQL can reach.

Knows DuckDB's settings; which paths and databases a step may use was decided by the caller. Credentials' values are
bound or written as literals into statements that nothing keeps.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final

import _duckdb as duckdb

from executors.sandbox import fence
from executors.sandbox.duckdb_rules import Place, refuse_functions
from executors.sandbox.duckdb_tokens import quoted_name, quoted_text, split

LOCK_RETRY_SECONDS: Final = 0.05
DNS_PORT: Final = 53


def fence_in(payload: Mapping[str, Any]) -> None:
    """Keep this process to the payload's files and ports, as far as the kernel can."""
    database = payload["database"]
    own = [payload["files"], payload["temp_directory"]]
    own += [] if database == ":memory:" else [os.path.dirname(database)]
    own += [os.path.dirname(file["path"]) for file in payload["sqlite"] if not file["read_only"]]
    reads = [*payload["directories"], *payload["paths"], *payload["extensions"].values()]
    reads += [os.path.dirname(file["path"]) for file in payload["sqlite"]]
    ports = payload["ports"]
    fence.fence_in(reads=reads, writes=own, ports=[*ports, DNS_PORT] if ports else [])


def open_database(payload: Mapping[str, Any]) -> Any:
    """Connect; while another process holds the file, try again for a bounded time. Raises: `duckdb.Error`."""
    config = {
        "threads": payload["threads"],
        "memory_limit": payload["memory_limit"],
        "temp_directory": payload["temp_directory"],
        "max_temp_directory_size": payload["temp_size"],
        "extension_directory": payload["temp_directory"],
        "home_directory": payload["files"],
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
        # SQL must not read the variables of this process.
        "python_enable_replacements": False,
    }
    give_up_at = time.monotonic() + payload["lock_wait_seconds"]
    while True:
        try:
            return duckdb.connect(payload["database"], config=config)
        except duckdb.IOException as error:
            if not is_lock(error) or time.monotonic() >= give_up_at:
                raise
            time.sleep(LOCK_RETRY_SECONDS)


def is_lock(error: Exception) -> bool:
    """Whether another process holds the file."""
    # As it begins: what follows quotes the path.
    return str(error).startswith("IO Error: Could not set lock on file")


def prepare(connection: Any, payload: Mapping[str, Any]) -> None:
    """Attach, load and confine: afterwards no SQL can lift it. Raises: `duckdb.Error`."""
    connection.execute("SET TimeZone = 'UTC'")
    for file in payload["extensions"].values():
        connection.execute(f"LOAD {quoted_text(file)}")
    for secret in payload["secrets"]:
        _create_secret(connection, secret)
    for database in payload["attach"]:
        _attach(connection, database)
    for file in payload["sqlite"]:
        read_only = ", READ_ONLY" if file["read_only"] else ""
        path, alias = quoted_text(file["path"]), quoted_name(file["alias"])
        connection.execute(f"ATTACH {path} AS {alias} (TYPE sqlite{read_only})")
    for name, value in payload["tables"].items():
        _make_table(connection, name, value, payload["temp_directory"])
    _confine(connection, payload)


def place_of(payload: Mapping[str, Any]) -> Place:
    """What the rules for statements need to know."""
    return Place(
        files=payload["files"],
        others=(*payload["directories"], *payload["paths"]),
        roots=tuple(payload["search"]),
        remote=tuple(payload["remote"]),
        aliases=tuple(item["alias"].lower() for item in (*payload["attach"], *payload["sqlite"])),
        extensions=tuple(payload["extensions"]),
    )


def check_definitions(connection: Any) -> None:
    """Look at the views and macros of a database that was just attached: somebody else may have written them.

    Raises: `Refused`, `TextRefused`.
    """
    stored = (
        "SELECT sql FROM duckdb_views() WHERE NOT internal UNION ALL"
        " SELECT macro_definition FROM duckdb_functions() WHERE NOT internal AND macro_definition IS NOT NULL"
    )
    for (text,) in connection.execute(stored).fetchall():
        for statement in split(text or ""):
            refuse_functions(statement.tokens)


def _create_secret(connection: Any, secret: Mapping[str, Any]) -> None:
    fields = secret["fields"]
    options = "".join(f", {name} ${name}" for name in fields)
    connection.execute(f"CREATE SECRET {quoted_name(secret['name'])} (TYPE {secret['type']}{options})", fields)


def _attach(connection: Any, database: Mapping[str, Any]) -> None:
    read_only = ", READ_ONLY" if database["read_only"] else ""
    alias, secret = quoted_name(database["alias"]), quoted_name(database["secret"])
    options = quoted_text(database["options"])
    connection.execute(f"ATTACH {options} AS {alias} (TYPE postgres, SECRET {secret}{read_only})")


def _make_table(connection: Any, name: str, value: Any, folder: str) -> None:
    """A temporary table of rows, or a view of a file of rows, under a name that SQL reads."""
    if isinstance(value, str):
        connection.execute(f"CREATE TEMP VIEW {quoted_name(name)} AS FROM read_parquet({quoted_text(value)})")
        return
    if not any(value):
        connection.execute(f"CREATE TEMP TABLE {quoted_name(name)} (json JSON)")
        return
    path = os.path.join(folder, "rows.ndjson")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in value)
    source = f"read_json({quoted_text(path)}, format = 'newline_delimited', sample_size = -1)"
    connection.execute(f"CREATE TEMP TABLE {quoted_name(name)} AS FROM {source}")
    os.unlink(path)


def _confine(connection: Any, payload: Mapping[str, Any]) -> None:
    """Nothing outside the named places can be reached, and no SQL can lift that."""
    if payload["remote"]:
        # Otherwise an address may name another server: s3://bucket/file?s3_endpoint=...
        connection.execute("SET s3_url_compatibility_mode = true")
        connection.execute("SET enable_global_s3_configuration = false")
    folders = [f"{payload['files']}/", *payload["directories"], *payload["remote"]]
    connection.execute(f"SET allowed_directories = {_literals(folders)}")
    connection.execute(f"SET allowed_paths = {_literals(payload['paths'])}")
    search = ",".join(root for root in payload["search"] if "," not in root)
    connection.execute(f"SET file_search_path = {quoted_text(search)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _literals(values: list[str]) -> str:
    return "[" + ", ".join(map(quoted_text, values)) + "]"
