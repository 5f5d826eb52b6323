"""`manage.py verify`: check every invariant of the platform on the whole database."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from executors.selectors import find_violations, invariants


class Command(BaseCommand):
    """Print each violation; exit with 1 when there is one."""

    help = "Check the invariants of executions, events, jobs and leases, and print each violation."

    def add_arguments(self, parser: CommandParser) -> None:
        """`--json` only."""
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and tell."""
        violations = find_violations()
        if options["json"]:
            told = {"invariants": invariants(), "violations": [asdict(violation) for violation in violations]}
            self.stdout.write(json.dumps(told))
        else:
            for violation in violations:
                self.stdout.write(f"{violation.invariant}: execution {violation.execution_id} {violation.message}")
            self.stdout.write(f"{len(violations)} violations")
        if violations:
            raise SystemExit(1)
