"""What the application's role may do with the tables of their owner.

Brought in line after each migration, for whatever role the settings name now: a role that is new, or another one, works
after `manage.py migrate`.
"""

from __future__ import annotations

from typing import Any, Final

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
RIGHTS: Final = """
    SELECT c.oid::regclass::text, coalesce(p.relname, c.relname) = ANY(%(append_only)s),
           has_schema_privilege(%(role)s, 'noetl', 'USAGE') AND has_table_privilege(%(role)s, c.oid, 'SELECT')
           AND has_table_privilege(%(role)s, c.oid, 'INSERT'),
           has_table_privilege(%(role)s, c.oid, 'UPDATE') AND has_table_privilege(%(role)s, c.oid, 'DELETE'),
           has_table_privilege(%(role)s, c.oid, 'UPDATE, DELETE, TRUNCATE')
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
    WHERE c.relnamespace = 'noetl'::regnamespace AND c.relkind IN ('r', 'p')
"""
"""Of each table: its name, is it append-only, may the role read and append, may it change and delete, any of it."""


def grant_to_application(connection: BaseDatabaseWrapper, application: str) -> None:
    """Give the role what the application needs, and no more, unless it has it; `connection` is the owner's.

    Raises: `ProgrammingError` when there is no such role.
    """
    if application == connection.settings_dict["USER"]:
        return
    role = sql.Identifier(application)
    # In one transaction: never may it change what it was not to change.
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        asked: dict[str, Any] = {"role": application, "append_only": list(APPEND_ONLY)}
        cursor.execute(RIGHTS, asked)
        # Granting again could meet a partition that is being made, which Postgres refuses.
        if not all(
            appends and (changes or is_append_only) for _, is_append_only, appends, changes, _ in cursor.fetchall()
        ):
            for statement in GRANTS:
                cursor.execute(sql.SQL(statement).format(role=role))
        cursor.execute(RIGHTS, asked)
        for table, is_append_only, _, _, changes_any in cursor.fetchall():
            if is_append_only and changes_any:
                cursor.execute(sql.SQL(REVOKE).format(table=sql.Identifier(table), role=role))
