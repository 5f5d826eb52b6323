"""`manage.py credentials`: store, list and delete named credentials; their data is never shown."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors.credentials.store import delete_credential, list_credentials
from executors.services import save_credential


class Command(BaseCommand):
    """Store, list and delete credentials."""

    help = (
        "Store, list and delete named credentials. The data is a JSON object, read from a file or from standard "
        "input, so that no secret stands on a command line; it is encrypted and never shown again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """`set`, `ls`, `rm`."""
        doing = parser.add_subparsers(dest="doing", required=True)
        one = doing.add_parser("set", help="store a credential, or replace it")
        one.add_argument("name")
        one.add_argument("--type", required=True, help="postgres, bearer, basic, api_key, header, ...")
        one.add_argument("--data", required=True, metavar="FILE", help="a JSON object; `-` reads standard input")
        one.add_argument("--description", default="")
        listing = doing.add_parser("ls", help="names and types, without data")
        listing.add_argument("--json", action="store_true")
        doing.add_parser("rm", help="delete a credential").add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked."""
        if options["doing"] == "set":
            save_credential(
                options["name"], options["type"], _read(options["data"]), description=options["description"]
            )
            self.stdout.write(f"stored {options['name']}")
        elif options["doing"] == "rm":
            delete_credential(options["name"])
            self.stdout.write(f"deleted {options['name']}")
        else:
            self._list(as_json=options["json"])

    def _list(self, *, as_json: bool) -> None:
        found = list_credentials()
        if as_json:
            self.stdout.write(json.dumps([asdict(credential) for credential in found], default=str))
            return
        if not found:
            self.stdout.write("no credentials; store one with `manage.py credentials set NAME --type T --data FILE`")
        for credential in found:
            self.stdout.write(f"{credential.name:<30} {credential.type:<12} {credential.description}")


def _read(source: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError):
        # Without the cause: it may quote the secret.
        raise CommandError(f"{source} is no readable JSON", returncode=2) from None
    if not isinstance(data, dict):
        raise CommandError(f"{source} must hold a JSON object", returncode=2)
    return data
