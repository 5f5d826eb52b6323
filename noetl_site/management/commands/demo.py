"""`manage.py demo`: the platform with the examples in it, and one of them run before your eyes."""

from __future__ import annotations

import io
import json
from typing import Any, Final

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from executors.api import list_credentials
from noetl_site.management.commands import standalone
from noetl_site.platform import PLAYGROUND_CREDENTIAL, Platform

PLAYBOOK: Final = "examples/weather"
COLUMNS: Final = ("year", "days", "wet_days", "precipitation_mm", "hottest", "coldest", "verdict")


class Command(standalone.Command):
    """Standalone, plus the examples and a run of the demo playbook."""

    help = (
        "Run the platform with the examples registered, and run the demo playbook on the real data shipped with it. "
        "The console is left running; --exit stops after the run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Those of `standalone`, and `--exit`."""
        super().add_arguments(parser)
        parser.add_argument("--exit", action="store_true", help="stop when the demo playbook has ended")

    def work(self, platform: Platform, options: dict[str, Any]) -> None:
        """Bring the examples in, run one, then leave the console running or stop."""
        check_credential()
        call_command("register", str(settings.BASE_DIR / "examples"), stdout=io.StringIO())
        result = run_demo_playbook()
        # With --json, stdout belongs to the one line.
        print_result(result, Console(stderr=options["json"], highlight=False))
        (self.stderr if options["json"] else self.stdout).write(f"{result['rows_read']} rows read")
        self.tell_ready(platform, options)
        if not options["exit"]:
            self.stderr.write("Ctrl-C stops everything")
            platform.watch()


def check_credential() -> None:
    """The examples need a stored credential, which an embedded platform brings along. Raises: `CommandError`."""
    if not any(credential.name == PLAYGROUND_CREDENTIAL for credential in list_credentials()):
        raise CommandError(
            f"with DATABASE_URL set, the examples need a credential {PLAYGROUND_CREDENTIAL!r} for a database of yours: "
            f"manage.py credentials set {PLAYGROUND_CREDENTIAL} --type postgres --data FILE"
        )


def run_demo_playbook() -> dict[str, Any]:
    """Run the playbook on the running platform, with live progress on stderr. Returns: its result."""
    output = io.StringIO()
    try:
        call_command("run", PLAYBOOK, watch=True, json=True, stdout=output)
    except SystemExit as end:
        error = json.loads(output.getvalue()).get("error") or {}
        told = f"the demo playbook failed at {error.get('step')}: {error.get('message')}"
        raise CommandError(told, returncode=int(end.code or 1)) from None
    result: dict[str, Any] = json.loads(output.getvalue())["result"]
    return result


def print_result(result: dict[str, Any], console: Console) -> None:
    """The years of the result as a table."""
    years: list[dict[str, Any]] = result["years"]
    table = Table(title=f"{PLAYBOOK}: {result['rows_read']} days read", title_justify="left")
    for column in COLUMNS:
        table.add_column(column.replace("_", " "), justify="right")
    for year in years:
        table.add_row(*(str(year[column]) for column in COLUMNS))
    console.print(table)
