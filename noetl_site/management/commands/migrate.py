"""`manage.py migrate`: Django's command, as the owner of the tables and in the platform's schema."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import UndefinedObject

from noetl_site.database.grants import grant_to_application


class Command(migrate.Command):
    """Migrate; the table of migrations itself needs the schema to be there, and what is made has to be granted."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Django's, with the owner's connection as the default."""
        super().add_arguments(parser)
        parser.set_defaults(database="admin")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the schema when it is missing, migrate, let the application's role use it."""
        owner = connections[options["database"]]
        with owner.cursor() as cursor:
            # Asked first: a role that may not create schemas is fine where the schema is there.
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'noetl'")
            if cursor.fetchone() is None:
                cursor.execute("CREATE SCHEMA noetl")
        super().handle(*args, **options)
        if not (options["plan"] or options["check_unapplied"]):
            _let_in(owner, settings.DATABASES["default"]["USER"])


def _let_in(owner: BaseDatabaseWrapper, application: str) -> None:
    try:
        grant_to_application(owner, application)
    except ProgrammingError as error:
        if not isinstance(error.__cause__, UndefinedObject):
            raise
        message = f'there is no role "{application}", which DATABASE_URL names: make it first (CREATE ROLE ... LOGIN)'
        raise CommandError(message) from None
