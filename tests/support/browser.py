"""A real browser that looks at the console and notices what is wrong with a page."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright

from tests.settings import SCREENSHOTS

CHROMIUM: Final = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS: Final = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visitor:
    """A browser window on one server. `faults` is what no page may have: errors, other hosts, refusals."""

    page: Page
    url: str
    pictures: Path
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Write down every fault from now on."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"{self.page.url}: {error}"))
        self.page.on("request", self._see_request)
        self.page.on("response", self._see_response)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"{self.page.url}: console says {message.text}")

    def _see_request(self, request: Request) -> None:
        if request.url.startswith("http") and urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.faults.append(f"{self.page.url}: asks for {request.url}")

    def _see_response(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"{self.page.url}: {response.status} for {response.url}")

    def visit(self, address: str, picture: str = "") -> None:
        """Go to an address of the server and wait until nothing is loaded any more; take a picture when it is named."""
        self.page.goto(f"{self.url}{address}", wait_until="networkidle")
        if picture:
            self.shoot(picture)

    def shoot(self, name: str) -> None:
        """Take a picture of the whole page."""
        self.page.screenshot(path=self.pictures / f"{name}.png", full_page=True)


@contextmanager
def open_browser() -> Iterator[BrowserContext]:
    """The system's Chromium with a profile of its own."""
    profile = tempfile.mkdtemp(prefix="noetl-browser-", dir="/tmp")
    try:
        with sync_playwright() as playwright:
            context = playwright.chromium.launch_persistent_context(
                profile, executable_path=CHROMIUM, args=ARGUMENTS, viewport={"width": 1440, "height": 900}
            )
            context.set_default_timeout(20_000)
            yield context
            context.close()
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def pictures_folder(otherwise: Path) -> Path:
    """Where pictures go."""
    folder = Path(os.environ.get(SCREENSHOTS) or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
