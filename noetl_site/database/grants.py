"""What the application's role may do with the tables of their owner.

Brought in line after each migration, for whatever role the settings name now: a role that is new, or another one, works
after `manage.py migrate`.
"""

from __future__ import annotations

from typing import Final

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql

APPEND_ONLY: Final = ("event_log", "action_log")
"""Rule R7: what the application reads and appends to, and changes no row of. The owner removes what is over."""

GRANTS: Final = (
    "GRANT USAGE ON SCHEMA noetl TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA noetl TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA noetl TO {role}",
    # Of the next release's tables, from the moment when they are there.
    "ALTER DEFAULT PRIVILEGES IN SCHEMA noetl GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA noetl GRANT USAGE ON SEQUENCES TO {role}",
)
REVOKE: Final = "REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {role}"
IS_GRANTED: Final = """
    SELECT has_schema_privilege(%(role)s, 'noetl', 'USAGE') AND bool_and(
        has_table_privilege(%(role)s, oid, 'SELECT') AND has_table_privilege(%(role)s, oid, 'INSERT'))
    FROM pg_class WHERE relnamespace = 'noetl'::regnamespace AND relkind IN ('r', 'p')
"""
WITH_PARTITIONS: Final = """
    SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'noetl'::regnamespace
    AND (relname = ANY(%(names)s) OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = ANY(
        SELECT oid FROM pg_class WHERE relnamespace = 'noetl'::regnamespace AND relname = ANY(%(names)s))))
"""


def grant_to_application(connection: BaseDatabaseWrapper, application: str) -> None:
    """Give the role what the application needs, and no more, unless it has it; `connection` is the owner's.

    Raises: `ProgrammingError` when there is no such role.
    """
    if application == connection.settings_dict["USER"]:
        return
    role = sql.Identifier(application)
    # In one transaction: never may it change what it was not to change.
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(IS_GRANTED, {"role": application})
        # Granting again could meet a partition that is being made, which Postgres refuses.
        if cursor.fetchone() == (True,):
            return
        for statement in GRANTS:
            cursor.execute(sql.SQL(statement).format(role=role))
        cursor.execute(WITH_PARTITIONS, {"names": list(APPEND_ONLY)})
        for (table,) in cursor.fetchall():
            cursor.execute(sql.SQL(REVOKE).format(table=sql.Identifier(table), role=role))
