"""Whether the database's server keeps what it has committed (rule R14)."""

from __future__ import annotations

from typing import Final

from django.db import connections

DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")
"""What must not be off where accepted results are kept."""
MARK: Final = "noetl.may_lose_results"
"""A setting of the server that tests mark theirs with (`tests.support.seeding.hurry`): no test cuts the power.

It is the server's own: it goes wherever its data goes, and nothing in a deployment's environment sets it by mistake.
"""


def find_lossy_settings(alias: str = "default") -> list[str]:
    """The names of the settings that are off in the server of a database, so that a crash loses accepted results."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off'"
            " AND current_setting(%s, true) IS DISTINCT FROM 'on' ORDER BY name",
            [list(DURABLE), MARK],
        )
        return [name for (name,) in cursor.fetchall()]
