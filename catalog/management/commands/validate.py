"""`validate FILE...`: every problem of playbooks, without registering them."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from catalog.api import validate_text
from catalog.management.reporting import EXIT_INVALID, playbook_files, problem_json, read_text


class Command(BaseCommand):
    """Judge playbooks. Exit code 5 when one has an error, else 0."""

    help = "Check playbooks: every problem with its place and what to do."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("files", nargs="+", metavar="FILE", help="a playbook, or a folder of them")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        found = [
            (str(file), problem)
            for file in playbook_files(options["files"])
            for problem in validate_text(read_text(file))[1]
        ]
        valid = not any(problem.severity == "error" for _, problem in found)
        if options["json"]:
            problems = [problem_json(file, problem) for file, problem in found]
            self.stdout.write(json.dumps({"valid": valid, "problems": problems}, indent=2))
        else:
            for file, problem in found:
                self.stdout.write(problem.told_of(file))
        if not valid:
            raise SystemExit(EXIT_INVALID)
