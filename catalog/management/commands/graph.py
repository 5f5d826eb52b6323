"""`graph FILE`: a playbook's steps and where they lead, to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.api import PlaybookInvalid, validate_text
from catalog.domain.drawing import draw_json, draw_mermaid
from catalog.management.reporting import EXIT_NOT_FOUND, read_text


class Command(BaseCommand):
    """Print the graph of a playbook."""

    help = "Print a playbook's steps, where each leads and when, and the bodies of its loops."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        parser.add_argument("file", metavar="FILE")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--mermaid", action="store_true", help="a Mermaid flowchart (the default)")
        form.add_argument("--json", action="store_true", help="nodes, edges and groups as one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        file = options["file"]
        if not Path(file).is_file():
            raise CommandError(f"there is no file {file}", returncode=EXIT_NOT_FOUND)
        playbook, problems = validate_text(read_text(Path(file)))
        if playbook is None:
            raise PlaybookInvalid(problems, file)
        if options["json"]:
            self.stdout.write(json.dumps(draw_json(playbook), indent=2))
        else:
            self.stdout.write(draw_mermaid(playbook))
