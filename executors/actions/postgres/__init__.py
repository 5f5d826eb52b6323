"""The `postgres` kind: SQL on a database named by a credential."""

from executors.actions.postgres.kind import PostgresAction
from executors.stores.postgres_target import ForbiddenTarget

__all__ = ["ForbiddenTarget", "PostgresAction"]
