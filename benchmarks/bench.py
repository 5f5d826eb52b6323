"""What every measure is given: how much to do, and a running platform with its peers beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.client import Client
from benchmarks.database import Database, Ended
from benchmarks.peers.celery import CeleryPeer, celery_peer
from benchmarks.peers.postgres import PostgresPeer
from benchmarks.platform import Platform, running


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    repeat: int = 5
    short: bool = False

    def size(self, full: int, short: int) -> int:
        """The size of a workload."""
        return short if self.short else full


@dataclass(frozen=True, slots=True)
class Scene:
    """A running platform, seen from outside."""

    platform: Platform
    client: Client
    database: Database

    def play(self, path: str, **payload: Any) -> Ended:
        """Start one execution and wait for its end."""
        [ended] = self.database.wait([self.client.start(path, **payload)])
        return ended


@dataclass(frozen=True, slots=True)
class Peers:
    """What it is compared with."""

    celery: CeleryPeer
    """As Celery comes."""
    celery_noack: CeleryPeer
    """The same without the Redis transport's acknowledgements, as the platform uses it."""
    celery_results: CeleryPeer
    """As it comes, with its results kept in Redis and collected."""
    postgres: PostgresPeer


@contextmanager
def scene(data_dir: Path, *, workers: int = 2, **extra: str) -> Iterator[Scene]:
    """A platform until the block ends."""
    with (
        running(data_dir, workers=workers, **extra) as platform,
        closing(Client(platform)) as client,
        closing(Database(platform)) as database,
    ):
        yield Scene(platform, client, database)


@contextmanager
def peers_of(platform: Platform) -> Iterator[Peers]:
    """The peers on the platform's servers until the block ends."""
    with ExitStack() as stack:
        plain = stack.enter_context(celery_peer(platform, "plain"))
        noack = stack.enter_context(celery_peer(platform, "noack"))
        results = stack.enter_context(celery_peer(platform, "results"))
        postgres = stack.enter_context(closing(PostgresPeer(platform)))
        yield Peers(plain, noack, results, postgres)
