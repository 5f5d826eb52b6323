"""The `postgres` kind: SQL on a database named by a credential."""

from executors.actions.postgres.kind import ForbiddenTarget, PostgresAction

__all__ = ["ForbiddenTarget", "PostgresAction"]
