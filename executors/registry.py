"""Which kinds of action there are, and what each is built with.

Knows every kind by name and none of their workings. Schemas are given without building a kind, so the server
can validate playbooks without processes, pools or data folders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from executors.actions.duckdb import DuckdbAction
from executors.actions.http import HttpAction
from executors.actions.postgres import ForbiddenTarget, PostgresAction
from executors.actions.python import PythonAction
from executors.contract import ActionKind
from executors.sandbox.host import Isolation, Limits

KINDS: tuple[type[ActionKind], ...] = (PythonAction, HttpAction, PostgresAction, DuckdbAction)


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """What the settings say about actions."""

    data_dir: Path
    http_allowed_networks: tuple[str, ...] = ()
    duckdb_allowed_directories: tuple[Path, ...] = ()
    duckdb_memory_limit: str = "1GB"
    forbidden_postgres: tuple[ForbiddenTarget, ...] = ()
    python_limits: Limits = field(default_factory=Limits)
    python_isolation: Isolation = Isolation.TURN
    python_isolation_least: Isolation = Isolation.TURN

    @classmethod
    def from_settings(cls, settings: Any) -> Self:
        """From an object with Django's settings; the databases named there are forbidden to steps."""
        own = [
            ForbiddenTarget(
                host=str(database.get("HOST") or ""),
                port=str(database.get("PORT") or ""),
                dbname=str(database.get("NAME") or ""),
                user=str(database.get("USER") or ""),
            )
            for database in settings.DATABASES.values()
        ]
        directories = getattr(settings, "NOETL_DUCKDB_ALLOWED_DIRECTORIES", ())
        return cls(
            data_dir=Path(settings.NOETL_DATA_DIR),
            http_allowed_networks=tuple(getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ())),
            duckdb_allowed_directories=tuple(Path(directory) for directory in directories),
            forbidden_postgres=tuple(own),
            python_isolation=Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION", Isolation.TURN)),
            python_isolation_least=Isolation(getattr(settings, "NOETL_PYTHON_ISOLATION_LEAST", Isolation.TURN)),
        )


def build_registry(config: RegistryConfig) -> dict[str, ActionKind]:
    """One instance of every kind by its name; cheap, as processes start with the first job."""
    kinds: list[ActionKind] = [
        PythonAction(config.python_limits, isolation=config.python_isolation, least=config.python_isolation_least),
        HttpAction(config.http_allowed_networks),
        PostgresAction(config.forbidden_postgres),
        DuckdbAction(config.duckdb_allowed_directories, memory_limit=config.duckdb_memory_limit),
    ]
    return {kind.name: kind for kind in kinds}


def argument_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every kind's arguments by its name."""
    return {kind.name: kind.Arguments.model_json_schema() for kind in KINDS}
