"""`manage.py retention`: take executions away that are older than wanted."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from executors.retention import Month, find_old_months, remove_month


class Command(BaseCommand):
    """Say which months are old, and remove them."""

    help = (
        "Remove the executions of whole months that were over DAYS days ago, with their events, jobs, logs, results "
        "and files of this machine's data folder. A month in which an execution still runs is kept. Without --yes it "
        "only tells what would go. It may be stopped and started again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """How old, and whether to do it."""
        parser.add_argument("--keep", type=int, required=True, metavar="DAYS", help="how long a month is kept")
        parser.add_argument("--yes", action="store_true", help="remove them")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Tell, and do as told."""
        if options["keep"] < 1:
            raise CommandError("--keep takes a number of days, 1 or more", returncode=2)
        months = find_old_months(options["keep"])
        for month in months:
            if options["yes"] and not month.open:
                self._remove(month)
            if not options["json"]:
                self.stdout.write(_line(month, removed=options["yes"]))
        if options["json"]:
            self.stdout.write(json.dumps([_told(month, removed=options["yes"]) for month in months]))
        elif not months:
            self.stdout.write("no month is that old")
        elif not options["yes"]:
            self.stdout.write("nothing was removed: say --yes")

    def _remove(self, month: Month) -> None:
        def tell(done: int) -> None:
            self.stderr.write(f"{month.name}: {done} of {month.executions} executions", ending="\r")

        try:
            remove_month(month, settings.NOETL_DATA_DIR, tell)
        except OperationalError as error:
            raise CommandError(
                f"the events of {month.name} are in use; run it again later: {str(error).strip()}"
            ) from None


def _line(month: Month, *, removed: bool) -> str:
    if month.open:
        return f"{month.name}: {month.executions} executions, kept: {month.open} of them, or children, have not ended"
    return f"{month.name}: {month.executions} executions{' removed' if removed else ''}"


def _told(month: Month, *, removed: bool) -> dict[str, Any]:
    return {
        "month": month.name,
        "executions": month.executions,
        "open": month.open,
        "removed": removed and not month.open,
    }
