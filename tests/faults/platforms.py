"""Platforms with short leases that faults are brought upon: with embedded servers, or servers of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from noetl_site import embedded
from tests.faults.faulty import Faulty
from tests.support import seeding
from tests.support.books import CALLING, CHAIN, FAN, WIDENING
from tests.support.platform import environment, running_platform
from tests.support.proxies import PostgresProxy, RedisProxy
from tests.support.schedules import Failpoints
from tests.support.starting import Starter, register

LEASE_SECONDS: Final = "2"
TEXTS: Final = (CHAIN, FAN, WIDENING, CALLING)


@contextmanager
def faulty_platform(
    data_dir: Path, *, texts: Sequence[str] = TEXTS, arguments: Sequence[str] = (), **env: str
) -> Iterator[Faulty]:
    """A platform with short leases, failpoints, playbooks and a client; `arguments` are of `standalone`."""
    for name in ("failpoints", "books"):
        (data_dir / name).mkdir()
    points = Failpoints(data_dir / "failpoints")
    extra = {"NOETL_LEASE_SECONDS": LEASE_SECONDS, "NOETL_FAILPOINTS": str(points.folder), **env}
    with running_platform(data_dir, *arguments, **extra) as running:
        register(running, data_dir / "books", *texts)
        yield Faulty(running, points, Starter(running))


@contextmanager
def served_platform(
    data_dir: Path, *, texts: Sequence[str] = TEXTS, arguments: Sequence[str] = (), **env: str
) -> Iterator[Faulty]:
    """One whose servers belong to this process, which alone revives them, and are reached through proxies."""
    seeding.seed(data_dir, environment(data_dir))
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
        with faulty_platform(data_dir, texts=texts, arguments=arguments, **urls, **env) as faulty:
            faulty.postgres, faulty.redis = postgres, redis
            yield faulty
    finally:
        postgres.close()
        redis.close()
        embedded.release(data_dir)
