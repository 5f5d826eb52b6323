"""`manage.py standalone`: the whole platform on this machine, until Ctrl-C."""

from __future__ import annotations

import json
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from noetl_site.platform import ADMIN, Platform, Wanted


class Command(BaseCommand):
    """Start everything, keep it running, stop it cleanly."""

    help = (
        "Run the whole platform on this machine: Postgres and Redis (embedded, unless DATABASE_URL and REDIS_URL are "
        "set), web server, workers and reconciler. Ctrl-C stops all of it; the data is kept."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen, how many workers, which data."""
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8080, help="the port of the console; 0 takes a free one")
        parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes; 0 starts none")
        parser.add_argument(
            "--pool",
            action="append",
            dest="pools",
            metavar="NAME",
            help="a worker pool that the workers serve; may be repeated (default NOETL_WORKER_POOLS)",
        )
        # Read by manage.py before the settings are.
        parser.add_argument("--data-dir", metavar="DIR", help="the data folder (default NOETL_DATA_DIR or ./data)")
        parser.add_argument("--no-web", action="store_true", help="no web server")
        parser.add_argument("--json", action="store_true", help="print one JSON line when everything is ready")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, start, tell, keep running."""
        pools = tuple(dict.fromkeys(options["pools"] or settings.NOETL_WORKER_POOLS))
        web = {"host": options["host"], "port": options["port"], "with_web": not options["no_web"]}
        wanted = Wanted(**web, workers=options["workers"], pools=pools)
        platform = Platform(wanted, self.stderr.write)
        try:
            platform.prepare()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda *_: platform.stop_event.set())
            platform.start()
            if not platform.stop_event.is_set():
                self.work(platform, options)
        finally:
            self.stderr.write("stopping")
            platform.stop()

    def work(self, platform: Platform, options: dict[str, Any]) -> None:
        """What is done while the platform runs."""
        self.tell_ready(platform, options)
        self.stderr.write("Ctrl-C stops everything")
        platform.watch()

    def tell_ready(self, platform: Platform, options: dict[str, Any]) -> None:
        """Print where the console is and how to enter it."""
        if options["json"]:
            admin = {"username": ADMIN, "password": platform.password}
            ready = {"url": platform.url, "token": platform.token, "admin": admin}
            self.stdout.write(json.dumps({**ready, "data_dir": str(settings.NOETL_DATA_DIR)}))
        else:
            self._tell_user(platform)
        self.stdout.flush()

    def _tell_user(self, platform: Platform) -> None:
        if platform.url is None:
            self.stdout.write("ready (no web server)")
        else:
            self.stdout.write(f"ready: {platform.url}/admin/")
        if platform.password is not None:
            self.stdout.write(f"user {ADMIN}, password {platform.password} (shown this once)")
            self.stdout.write(f"API token {platform.token} (shown this once; manage.py tokens makes others)")
        elif platform.url is not None:
            self.stdout.write(f"user {ADMIN}, password as at its creation (manage.py changepassword {ADMIN})")
        self.stdout.write(f"logs: {platform.logs}")
