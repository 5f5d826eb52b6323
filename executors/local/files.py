"""What a run with no server takes from files: the playbooks of a folder, and credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.api import Playbook, PlaybookInvalid, PlaybookNotFound, Problem, split_reference, validate_text
from executors.auth import as_texts
from executors.contract import Credential
from executors.errors import CredentialNotFound, CredentialsUnreadable

FIRST_VERSION = "0.1.0"
LATEST = "latest"
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Found:
    """A playbook of the catalog and the version it counts as."""

    playbook: Playbook
    version: str


class LocalCatalog:
    """Playbooks by their path. Of one path the texts added later are the newer versions: 0.1.0, 0.1.1, ..."""

    def __init__(self) -> None:
        self._versions: dict[str, list[Playbook]] = {}
        self.warnings: list[tuple[str, Problem]] = []

    @classmethod
    def of_folder(cls, folder: Path) -> LocalCatalog:
        """Every YAML file below the folder, sorted. Raises: `PlaybookInvalid` for the first that is none."""
        catalog = cls()
        for file in sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file()):
            catalog.add_text(file.read_bytes().decode("utf-8", errors="surrogateescape"), str(file))
        return catalog

    def add_text(self, text: str, source: str) -> Found:
        """Add a playbook; `source` names it in problems. Raises: `PlaybookInvalid`."""
        playbook, problems = validate_text(text)
        if playbook is None:
            raise PlaybookInvalid(problems, source)
        self.warnings.extend((source, problem) for problem in problems)
        return self.add(playbook)

    def add(self, playbook: Playbook) -> Found:
        """Add a playbook, unless it is there already."""
        versions = self._versions.setdefault(playbook.path, [])
        if playbook in versions:
            return Found(playbook, _version(versions.index(playbook)))
        versions.append(playbook)
        return Found(playbook, _version(len(versions) - 1))

    def find(self, path: str, version: str | None = None) -> Found:
        """A playbook; the newest for None and `latest`. `PATH:VERSION` may stand in `path`.

        Raises: `PlaybookNotFound`.
        """
        if version in (None, "", LATEST):
            path, version = split_reference(path)
        versions = self._versions.get(path, [])
        known = {_version(place): playbook for place, playbook in enumerate(versions)}
        wanted = _version(len(versions) - 1) if version in (None, "", LATEST) else str(version)
        if wanted not in known:
            raise PlaybookNotFound(path, version)
        return Found(known[wanted], wanted)

    def paths_below(self, prefix: str) -> list[str]:
        """The paths below a path, sorted; all for the empty one."""
        folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        return sorted(path for path in self._versions if path.startswith(folder))


def _version(place: int) -> str:
    return f"0.1.{place}"


class LocalCredentials:
    """Credentials in this process's memory."""

    def __init__(self, credentials: Mapping[str, Credential] | None = None) -> None:
        self._credentials = dict(credentials or {})

    def resolve(self, name: str) -> Credential:
        """A credential by its name. Raises: `CredentialNotFound`."""
        found = self._credentials.get(name)
        if found is None:
            raise CredentialNotFound(name)
        return found


def read_credentials(file: Path) -> dict[str, Credential]:
    """The credentials of a JSON file `[{name, type, data}]`. Raises: `CredentialsUnreadable`, which quotes no value."""
    try:
        entries: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CredentialsUnreadable(str(file), type(error).__name__) from None
    if not isinstance(entries, list):
        raise CredentialsUnreadable(str(file), "it must hold a list")
    credentials = {}
    for place, entry in enumerate(entries):
        if not (isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("data"), dict)):
            raise CredentialsUnreadable(str(file), f"entry {place} must be a map with name, type and data")
        credentials[entry["name"]] = Credential(entry["name"], str(entry.get("type", "")), as_texts(entry["data"]))
    return credentials
