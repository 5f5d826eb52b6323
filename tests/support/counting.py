"""What the database is asked, counted as libpq sends it: the measure of the fast path that no busy machine changes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection


@dataclass(slots=True)
class Asked:
    """How often the database was asked and waited for, and how many transactions were begun and committed."""

    round_trips: int = 0
    begun: int = 0
    committed: int = 0


@contextmanager
def counted() -> Iterator[Asked]:
    """What this thread's connection asks meanwhile; the counts are there at the end."""
    connection.ensure_connection()
    raw: Any = connection.connection
    asked = Asked()
    with tempfile.NamedTemporaryFile("w+") as trace:
        raw.pgconn.trace(trace.fileno())
        try:
            yield asked
        finally:
            raw.pgconn.untrace()
        lines = Path(trace.name).read_text(encoding="latin-1").splitlines()
    for line in lines:
        if "\t" not in line:
            continue
        _, side, _, message, *told = line.split("\t")
        if side != "F":
            continue
        kind = message.split()[0]
        asked.round_trips += kind in ("Query", "Sync")
        words = f"{message} {' '.join(told)}"
        asked.begun += kind in ("Query", "Parse") and '"BEGIN' in words
        asked.committed += kind in ("Query", "Parse") and '"COMMIT' in words
