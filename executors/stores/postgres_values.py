"""Which form a database's values take on their way to JSON, and a step's on their way to the database.

Knows psycopg's loaders and dumpers. What JSON cannot hold becomes the text that Postgres writes for it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import psycopg
from psycopg import postgres
from psycopg.adapt import AdaptersMap, Buffer
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from psycopg.types.json import JsonbDumper
from psycopg.types.numeric import FloatLoader
from psycopg.types.string import TextLoader

TEXTS: Final = ("interval", "daterange", "int4range", "int8range", "numrange", "tsrange", "tstzrange")
"""Python's values of these types lose something, or their text is not Postgres'."""


class _NumberLoader(FloatLoader):
    """A number; `NaN` and the infinities are texts."""

    def load(self, data: Buffer) -> Any:
        value = super().load(data)
        return value if math.isfinite(value) else bytes(data).decode()


class _DateLoader(DateLoader):
    def load(self, data: Buffer) -> Any:
        return _in_range(super().load, data)


class _TimestampLoader(TimestampLoader):
    def load(self, data: Buffer) -> Any:
        return _in_range(super().load, data)


class _TimestamptzLoader(TimestamptzLoader):
    def load(self, data: Buffer) -> Any:
        return _in_range(super().load, data)


def _in_range(load: Any, data: Buffer) -> Any:
    """The value; a text where Python's calendar ends before Postgres' (`infinity`, years before Christ)."""
    try:
        return load(data)
    except psycopg.DataError:
        return bytes(data).decode()


def adapt(adapters: AdaptersMap) -> None:
    """Have a connection load and dump values in the form that steps use."""
    for name in ("float4", "float8", "numeric"):
        adapters.register_loader(name, _NumberLoader)
    adapters.register_loader("date", _DateLoader)
    adapters.register_loader("timestamp", _TimestampLoader)
    adapters.register_loader("timestamptz", _TimestamptzLoader)
    for name in (*TEXTS, *(name.replace("range", "multirange") for name in TEXTS if "range" in name)):
        if postgres.types.get(name) is not None:
            adapters.register_loader(name, TextLoader)
    # A map given as a parameter is JSON.
    adapters.register_dumper(dict, JsonbDumper)
