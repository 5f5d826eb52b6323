"""Servers of the user's own: with the URLs set, nothing is embedded."""

from __future__ import annotations

import json

from noetl_site import embedded
from tests.support import seeding
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
