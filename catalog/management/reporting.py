"""How the catalog's commands read files and tell of problems."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from catalog.errors import Problem

EXIT_NOT_FOUND = 4
EXIT_INVALID = 5
SUFFIXES = (".yaml", ".yml")


def playbook_files(named: Iterable[str]) -> list[Path]:
    """The files named, and for a folder the YAML files below it, sorted.

    Raises: `CommandError` (exit code 4) for one that does not exist.
    """
    files: list[Path] = []
    for name in named:
        path = Path(name)
        if path.is_dir():
            files.extend(sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file()))
        elif path.is_file():
            files.append(path)
        else:
            raise CommandError(f"there is no file {name}", returncode=EXIT_NOT_FOUND)
    return files


def read_text(file: Path) -> str:
    """The text of a file; bytes that are no UTF-8 become a character that the parser refuses."""
    return file.read_bytes().decode("utf-8", errors="surrogateescape")


def problem_json(file: str, problem: Problem) -> dict[str, Any]:
    """A problem as JSON."""
    return {"file": file, **asdict(problem)}
