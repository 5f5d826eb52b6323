"""What every table of the platform stands on: the schema, the clock and the ids."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations

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
    ]
