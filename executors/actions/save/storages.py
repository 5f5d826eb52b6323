"""Which storages there are.

A new one is a class, named here, and nothing else: what it takes and needs reaches the catalog with the kind's schema.
"""

from __future__ import annotations

from typing import Final

from executors.actions.save.buckets import GcsStorage, S3Storage
from executors.actions.save.duckdb import DuckDbStorage
from executors.actions.save.event_log import EventLogStorage
from executors.actions.save.file import FileStorage
from executors.actions.save.http import HttpStorage
from executors.actions.save.postgres import PostgresStorage
from executors.actions.save.python import PythonStorage
from executors.actions.save.storage import Storage

STORAGES: Final[tuple[type[Storage], ...]] = (
    EventLogStorage,
    PostgresStorage,
    DuckDbStorage,
    HttpStorage,
    PythonStorage,
    FileStorage,
    S3Storage,
    GcsStorage,
)
