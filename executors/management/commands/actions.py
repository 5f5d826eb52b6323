"""`manage.py actions`: the kinds of action that are installed here, and what each takes and gives."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors.management.actions_page import document_of, page_of, summary_of
from executors.registry import argument_schemas, find_kinds


class Command(BaseCommand):
    """List the kinds; with a name tell of one."""

    help = "List the installed kinds of action with their origin; NAME: its arguments, result, errors and example."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which one, and in which form."""
        parser.add_argument("name", nargs="?", metavar="NAME")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="the JSON Schemas of the arguments, by kind")
        form.add_argument("--markdown", action="store_true", help="the pages of all kinds, as in docs/actions.md")

    def handle(self, *args: Any, **options: Any) -> None:
        """Tell what was asked."""
        installed, name = find_kinds(), options["name"]
        if name is not None and name not in installed.kinds:
            known = f"known: {', '.join(installed.kinds)}"
            why = next((plugin.problem for plugin in installed.broken if plugin.name == name), known)
            raise CommandError(f"there is no kind {name!r} here; {why}", returncode=4)
        chosen = {name: installed.kinds[name]} if name else installed.kinds
        if options["json"]:
            self.stdout.write(json.dumps({kind: argument_schemas()[kind] for kind in chosen}, indent=2))
        elif options["markdown"]:
            self.stdout.write(document_of(chosen.values()), ending="")
        elif name:
            self.stdout.write(page_of(chosen[name].kind, chosen[name].origin), ending="")
        else:
            for kind, found in chosen.items():
                self.stdout.write(f"{kind:<12} {found.origin:<24} {summary_of(found.kind)}")
        if name is None:
            for plugin in installed.broken:
                self.stderr.write(f"{plugin.name} of {plugin.origin} cannot be used: {plugin.problem}")
