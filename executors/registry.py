"""Which kinds of action there are: the built-in ones and those of installed plugins, found by their entry points.

Knows where kinds are found and none of their workings. Their schemas are given without building a kind, so the server
can validate playbooks without processes, pools or data folders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from executors.actions.duckdb import DuckdbAction
from executors.actions.http import HttpAction
from executors.actions.notify import NotifyAction
from executors.actions.postgres import PostgresAction
from executors.actions.python import PythonAction
from executors.actions.save import SaveAction
from executors.actions.secrets import SecretsAction
from executors.actions.shell import ShellAction
from executors.actions.transfer import TransferAction
from executors.contract import ActionKind, Arguments
from executors.scripts import Scripts

BUILT_IN: Final[tuple[type[ActionKind], ...]] = (
    PythonAction,
    HttpAction,
    PostgresAction,
    DuckdbAction,
    SecretsAction,
    TransferAction,
    SaveAction,
    NotifyAction,
    ShellAction,
)
ENTRY_POINTS: Final = "noetl.actions"
"""The group of entry points: the name is the kind's, the object its class."""
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class InstalledKind:
    """A kind and where it comes from: `built in`, or the plugin's distribution and its version."""

    kind: type[ActionKind]
    origin: str


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin whose kind cannot be used: the entry point's name, the distribution and why."""

    name: str
    origin: str
    problem: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What this process can use, by name, and what it found and cannot."""

    kinds: dict[str, InstalledKind]
    broken: tuple[BrokenPlugin, ...]


@cache
def find_kinds() -> Installed:
    """Every installed kind. A plugin that cannot be used takes nothing else along; looked for once per process."""
    kinds = {kind.name: InstalledKind(kind, "built in") for kind in BUILT_IN}
    broken: list[BrokenPlugin] = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, _origin(point))):
        try:
            kind = _load(point)
            if point.name in kinds:
                raise ValueError(f"there is such a kind already ({kinds[point.name].origin})")
        except Exception as error:
            # Whatever a foreign module raises while it is imported.
            broken.append(BrokenPlugin(point.name, _origin(point), f"{type(error).__name__}: {error}"))
        else:
            kinds[point.name] = InstalledKind(kind, _origin(point))
    return Installed(kinds, tuple(broken))


def build_registry(settings: Any) -> dict[str, ActionKind]:
    """One instance of every kind by its name; cheap, as processes start with the first job.

    `settings` is an object with Django's settings.
    """
    kinds = {name: installed.kind.build(settings) for name, installed in find_kinds().kinds.items()}
    duckdb, postgres = kinds[DuckdbAction.name], kinds[PostgresAction.name]
    if isinstance(duckdb, DuckdbAction) and isinstance(postgres, PostgresAction):
        # The kinds do not know one another: what a step may connect to is one rule all the same.
        duckdb.let_attach_postgres(postgres.target_options)
    if isinstance(python := kinds.get(PythonAction.name), PythonAction):
        # Scripts come by the rules of http steps, too, and no kind knows another: they are lent to it here.
        networks = getattr(settings, "NOETL_HTTP_ALLOWED_NETWORKS", ())
        python.fetch_with(Scripts(getattr(settings, "NOETL_PYTHON_SCRIPTS_DIR", None), networks))
    if isinstance(save := kinds.get(SaveAction.name), SaveAction):
        # To send and to run code is other kinds' work, also when it is a save.
        save.work_with(kinds)
    return kinds


@cache
def argument_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every kind's arguments by its name."""
    return {name: installed.kind.Arguments.model_json_schema() for name, installed in find_kinds().kinds.items()}


def _load(point: EntryPoint) -> type[ActionKind]:
    """The class behind an entry point. Raises: anything; what is no usable kind is a `ValueError` or `TypeError`."""
    kind = point.load()
    if not (isinstance(kind, type) and issubclass(kind, ActionKind)):
        raise TypeError(f"{point.value} is no subclass of executors.contract.ActionKind")
    if kind.name != point.name or not NAME.fullmatch(kind.name):
        raise ValueError(f"the kind's name {kind.name!r} must be the entry point's, of a-z, 0-9 and _")
    if not issubclass(kind.Arguments, Arguments):
        raise TypeError(f"{point.value}.Arguments is no subclass of executors.contract.Arguments")
    if abstract := sorted(kind.__abstractmethods__):
        raise TypeError(f"{point.value} lacks {', '.join(abstract)}")
    kind.Arguments.model_json_schema()
    return kind


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
