"""`manage.py retention`: take executions away that are older than wanted."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from executors.retention import EventsInUse, Month, find_old_months, remove_month


class Command(BaseCommand):
    """Say which months are old, and remove them."""

    help = (
        "Remove the executions of whole months that were over DAYS days ago, with their events, jobs, logs, results "
        "and files of this machine's data folder. A month in which an execution still runs is kept, and all after it. "
        "Without --yes it only tells what would go. It may be stopped and started again."
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
        months, told, kept = find_old_months(options["keep"]), [], None
        for month in months:
            # What is younger than a month that is kept stays with it: it may hold its children and reruns.
            goes = kept is None and not month.open
            removed = goes and options["yes"] and self._remove(month)
            if kept is None and not (removed if options["yes"] else goes):
                kept = month
            told.append({**_told(month), "removed": removed})
            if not options["json"]:
                self.stdout.write(_line(month, kept, removed=removed))
        if options["json"]:
            self.stdout.write(json.dumps(told))
        elif not months:
            self.stdout.write("no month is that old")
        elif not options["yes"]:
            self.stdout.write("nothing was removed: say --yes")

    def _remove(self, month: Month) -> bool:
        def tell(done: int) -> None:
            self.stderr.write(f"{month.name}: {done} of {month.executions} executions", ending="\r")

        try:
            return remove_month(month, settings.NOETL_DATA_DIR, tell)
        except EventsInUse as error:
            raise CommandError(f"the events of {month.name} are in use; run it again later: {error}") from None
        except OSError as error:
            raise CommandError(
                f"files of {month.name} cannot be removed; mend that, and run it again: {error}"
            ) from None


def _line(month: Month, kept: Month | None, *, removed: bool) -> str:
    line = f"{month.name}: {month.executions} executions"
    if month.open:
        return f"{line}, kept: {month.open} of them, or their children or reruns, have not ended"
    if kept is month:
        return f"{line}, kept: a rerun of one of them has begun"
    if kept is not None:
        return f"{line}, kept: {kept.name} is, and they may belong to it"
    return f"{line}{' removed' if removed else ''}"


def _told(month: Month) -> dict[str, Any]:
    return {"month": month.name, "executions": month.executions, "open": month.open}
