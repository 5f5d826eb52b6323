"""`schema`: the JSON Schema of the language, for editors."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand

from catalog.api import playbook_json_schema


class Command(BaseCommand):
    """Print the JSON Schema of playbooks."""

    help = "Print the JSON Schema of the language, for editors."
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        self.stdout.write(json.dumps(playbook_json_schema(), indent=2))
