"""What can go wrong in the catalog, each with a stable code. No HTTP and no exit codes here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a playbook's text.

    `pointer` is a JSON pointer into the document (RFC 6901); `line` and `column` count from 1.
    """

    code: str
    message: str
    pointer: str
    line: int
    column: int
    severity: Literal["error", "warning"] = "error"

    def told_of(self, source: str) -> str:
        """The problem as one line, in the form editors jump to: `file:line:column: severity code message`."""
        place = f"{source}:{self.line}:{self.column}"
        return f"{place}: {self.severity} {self.code} {' '.join(self.message.split())}"


class CatalogError(Exception):
    """Root of the catalog's errors."""

    code = "catalog_error"


class PlaybookInvalid(CatalogError):
    """The text is no valid playbook; nothing was registered."""

    code = "playbook_invalid"

    def __init__(self, problems: tuple[Problem, ...], source: str) -> None:
        self.problems = problems
        self.source = source
        super().__init__("\n".join(problem.told_of(source) for problem in problems))


class PlaybookNotFound(CatalogError):
    """No such path, or no such version of it."""

    code = "playbook_not_found"

    def __init__(self, path: str, version: str | None = None) -> None:
        self.path = path
        self.version = version
        wanted = f"{path}:{version}" if version else path
        super().__init__(f"there is no playbook {wanted} in the catalog")
