"""What every table of the platform stands on: the schema, the clock and the ids."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from psycopg import sql

FUNCTIONS = """
-- Rule R4: the only clock that decides about leases. Tests shift it with the setting noetl.clock_offset.
CREATE OR REPLACE FUNCTION noetl.clock_now() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp() + coalesce(nullif(current_setting('noetl.clock_offset', true), ''), '0')::interval;

CREATE SEQUENCE IF NOT EXISTS noetl.id_seq MINVALUE 0 MAXVALUE 1048575 CYCLE;

-- 64-bit ids in the order of time: milliseconds since 2024-01-01 UTC, then 20 bits of one sequence.
CREATE OR REPLACE FUNCTION noetl.id_at(moment timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (floor(extract(epoch FROM moment) * 1000)::bigint - 1704067200000) << 20;

CREATE OR REPLACE FUNCTION noetl.next_id() RETURNS bigint
LANGUAGE sql VOLATILE
RETURN noetl.id_at(clock_timestamp()) | nextval('noetl.id_seq');
"""


def grant_to_application(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Let the application's role use what the owner's migrations create, now and later."""
    application = settings.DATABASES["default"]["USER"]
    owner = editor.connection.settings_dict["USER"]
    if application == owner:
        return
    role = sql.Identifier(application)
    statements = [
        "GRANT USAGE ON SCHEMA noetl TO {role}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA noetl TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA noetl TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA noetl GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA noetl GRANT USAGE ON SEQUENCES TO {role}",
    ]
    with editor.connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(sql.SQL(statement).format(role=role))


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.RunSQL("CREATE SCHEMA IF NOT EXISTS noetl", migrations.RunSQL.noop),
        migrations.RunSQL(
            FUNCTIONS,
            "DROP FUNCTION noetl.next_id(); DROP FUNCTION noetl.id_at(timestamptz); "
            "DROP SEQUENCE noetl.id_seq; DROP FUNCTION noetl.clock_now()",
        ),
        migrations.RunPython(grant_to_application, migrations.RunPython.noop),
    ]
