"""`register FILE|DIR...`: put playbooks into the catalog."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from catalog.api import PlaybookInvalid, register_playbook
from catalog.errors import Problem
from catalog.management.reporting import EXIT_INVALID, playbook_files, problem_json, read_text


class Command(BaseCommand):
    """Register playbooks. All files are tried; exit code 5 when one is invalid."""

    help = "Register playbooks: a new version each, unless nothing changed."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("files", nargs="+", metavar="FILE|DIR", help="a playbook, or a folder of them")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        registered: list[dict[str, Any]] = []
        problems: list[tuple[str, Problem]] = []
        invalid = False
        for file in map(str, playbook_files(options["files"])):
            try:
                done = register_playbook(read_text(Path(file)), file, actor=_user())
            except PlaybookInvalid as error:
                invalid = True
                problems.extend((file, problem) for problem in error.problems)
                continue
            problems.extend((file, problem) for problem in done.warnings)
            entry = {"file": file, "id": str(done.playbook.id), "created": done.created}
            registered.append({**entry, "path": done.playbook.path, "version": done.playbook.version})
        self._tell(registered, problems, as_json=options["json"])
        if invalid:
            raise SystemExit(EXIT_INVALID)

    def _tell(self, registered: list[dict[str, Any]], problems: list[tuple[str, Problem]], *, as_json: bool) -> None:
        if as_json:
            told = [problem_json(file, problem) for file, problem in problems]
            self.stdout.write(json.dumps({"registered": registered, "problems": told}, indent=2))
            return
        for entry in registered:
            verb = "registered" if entry["created"] else "unchanged"
            self.stdout.write(f"{verb} {entry['path']} {entry['version']}")
        for file, problem in problems:
            self.stderr.write(problem.told_of(file))


def _user() -> str:
    """The operating system's user, who has no name in some containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
