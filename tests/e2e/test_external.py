"""Servers of the user's own: with the URLs set, nothing is embedded."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from psycopg import sql

from noetl_site import embedded
from noetl_site.database.grants import APPEND_ONLY
from tests.support import seeding
from tests.support.commands import Commands
from tests.support.inspection import query, run_json, wait_for
from tests.support.platform import environment, running_platform, temporary_data_dir


def test_with_the_urls_set_nothing_is_embedded() -> None:
    with temporary_data_dir() as theirs, temporary_data_dir() as data_dir:
        servers = embedded.ensure_running(theirs)
        urls = {
            "DATABASE_URL": servers.database_url,
            "DATABASE_ADMIN_URL": servers.database_admin_url,
            "REDIS_URL": servers.redis_url,
        }
        try:
            with running_platform(data_dir, **urls) as running:
                document = run_json(running, "examples/hello.yaml", "--wait")
                assert document["status"] == "completed"
                assert running.manage("verify").stdout == "0 violations\n"
                known = json.loads(running.manage("executions", "ls", "--json").stdout)
                assert [execution["execution_id"] for execution in known] == [document["execution_id"]]
                assert not (data_dir / "postgres").exists()
                assert not (data_dir / "redis").exists()
        finally:
            embedded.release(theirs)


def test_with_no_broker_at_all_the_reconciler_does_the_work() -> None:
    with temporary_data_dir() as data_dir:
        seeding.seed(data_dir, environment(data_dir))
        servers = embedded.ensure_running(data_dir)
        urls = {
            "DATABASE_URL": servers.database_url,
            "DATABASE_ADMIN_URL": servers.database_admin_url,
            "REDIS_URL": f"redis+socket://{data_dir}/nobody.sock",
        }
        try:
            with running_platform(data_dir, "--workers", "0", "--no-web", **urls) as running:
                started = run_json(running, "examples/hello.yaml")
                assert started["status"] == "running"

                def has_ended() -> bool:
                    return query(running, "SELECT status FROM execution") == [("completed",)]

                assert wait_for(has_ended, seconds=60)
                assert running.manage("verify").stdout == "0 violations\n"
        finally:
            embedded.release(data_dir)


def test_another_role_of_the_application_works_after_a_migration() -> None:
    """One role at first, then one of the application's own: it may work with the tables, and change no event."""
    with temporary_data_dir() as theirs, temporary_data_dir() as data_dir:
        servers = embedded.ensure_running(theirs)
        folder = embedded.open_folder(theirs)
        owner = servers.database_admin_url
        commands = Commands(environment(data_dir, DATABASE_URL=owner, REDIS_URL=servers.redis_url))
        later = Commands(
            environment(
                data_dir,
                DATABASE_URL=owner.replace("noetl_owner", "second", 1),
                DATABASE_ADMIN_URL=owner,
                REDIS_URL=servers.redis_url,
            )
        )
        try:
            assert commands.run(["migrate", "--verbosity", "0"], 60).returncode == 0
            told = later.run(["migrate", "--verbosity", "0"], 60)
            assert (told.returncode, told.stdout) == (1, "")
            assert 'there is no role "second", which DATABASE_URL names' in told.stderr
            password = urlsplit(owner).password
            assert password
            with embedded.connect(folder, "noetl") as connection:
                statement = sql.SQL("CREATE ROLE second LOGIN PASSWORD {}")
                connection.execute(statement.format(sql.Literal(password)))
                connection.execute("GRANT CONNECT ON DATABASE noetl TO second")
            assert later.run(["migrate", "--verbosity", "0"], 60).returncode == 0
            done = later.run(["register", "examples/hello.yaml"], 60)
            assert done.returncode == 0, done.stderr
            # As the default gives them for a table that comes with a later release.
            with embedded.connect(folder, "noetl") as connection:
                connection.execute("GRANT UPDATE, DELETE, TRUNCATE ON noetl.action_log TO second")
            assert later.run(["migrate", "--verbosity", "0"], 60).returncode == 0
            with embedded.connect(folder, "noetl") as connection:
                rights = connection.execute(RIGHTS).fetchall()
            changeable = {table for table, right in rights if right != "INSERT"}
            assert [table for table in changeable if table.startswith(APPEND_ONLY)] == ["action_log_total"]
            assert ("queue", "DELETE") in rights
            assert ("event_log", "INSERT") in rights
        finally:
            commands.close()
            later.close()
            embedded.release(theirs)


RIGHTS = """
    SELECT relname, privilege FROM pg_class, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) privilege
    WHERE relnamespace = 'noetl'::regnamespace AND relkind IN ('r', 'p')
    AND has_table_privilege('second', oid, privilege)
"""
