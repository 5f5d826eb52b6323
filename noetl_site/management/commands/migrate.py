"""`manage.py migrate`: Django's command, as the owner of the tables and in the platform's schema."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import connections


class Command(migrate.Command):
    """Migrate; the table of migrations itself needs the schema to be there."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Django's, with the owner's connection as the default."""
        super().add_arguments(parser)
        parser.set_defaults(database="admin")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the schema when it is missing, then migrate."""
        with connections[options["database"]].cursor() as cursor:
            # Asked first: a role that may not create schemas is fine where the schema is there.
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'noetl'")
            if cursor.fetchone() is None:
                cursor.execute("CREATE SCHEMA noetl")
        super().handle(*args, **options)
