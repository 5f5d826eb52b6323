"""The platforms that faults are brought upon, each shared by the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from noetl_site import embedded
from tests.faults.faulty import Faulty
from tests.support.books import CHAIN, FAN
from tests.support.platform import running_platform, temporary_data_dir
from tests.support.proxies import PostgresProxy, RedisProxy
from tests.support.schedules import Failpoints
from tests.support.starting import Starter, register

LEASE_SECONDS = "2"


@contextmanager
def faulty_platform(data_dir: Path, **env: str) -> Iterator[Faulty]:
    """A platform with short leases, failpoints, two playbooks and a client."""
    for name in ("failpoints", "books"):
        (data_dir / name).mkdir()
    points = Failpoints(data_dir / "failpoints")
    extra = {"NOETL_LEASE_SECONDS": LEASE_SECONDS, "NOETL_FAILPOINTS": str(points.folder), **env}
    with running_platform(data_dir, **extra) as running:
        register(running, data_dir / "books", CHAIN, FAN)
        yield Faulty(running, points, Starter(running))


@pytest.fixture(scope="package")
def killable_platform() -> Iterator[Faulty]:
    """One with embedded servers, whose processes are killed and paused."""
    with temporary_data_dir() as data_dir, faulty_platform(data_dir) as faulty:
        yield faulty


@pytest.fixture
def killable(killable_platform: Faulty) -> Iterator[Faulty]:
    """The same, with no failpoint left armed after the test."""
    yield killable_platform
    killable_platform.points.release_all()


@pytest.fixture(scope="package")
def served_platform() -> Iterator[Faulty]:
    """One whose servers belong to the test, which alone revives them, and are reached through proxies."""
    with temporary_data_dir() as data_dir:
        servers = embedded.ensure_running(data_dir)
        folder = data_dir / "proxies"
        folder.mkdir()
        postgres = PostgresProxy(folder, servers.folder.postgres_socket)
        redis = RedisProxy(folder / "redis.sock", servers.folder.redis_socket)
        words = servers.database_url.partition("?")[0], servers.database_admin_url.partition("?")[0]
        urls = {
            "DATABASE_URL": f"{words[0]}?host={folder}",
            "DATABASE_ADMIN_URL": f"{words[1]}?host={folder}",
            "REDIS_URL": f"redis+socket://{folder}/redis.sock",
        }
        try:
            with faulty_platform(data_dir, **urls) as faulty:
                faulty.postgres, faulty.redis = postgres, redis
                yield faulty
        finally:
            postgres.close()
            redis.close()
            embedded.release(data_dir)


@pytest.fixture
def served(served_platform: Faulty) -> Iterator[Faulty]:
    """The same, with its proxies passing everything on again and its servers running after the test."""
    yield served_platform
    served_platform.proxies_at_rest()
    embedded.revive(served_platform.platform.data_dir)
