"""Packages that a step depends on: refused unless the worker's owner has named them, installed once per worker.

Wheels only: what a package brings is run in the step's child, never by the worker. Knows pip; nothing of steps.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import Final

from executors.actions.python.arguments import PACKAGE, VERSIONS
from executors.contract import ActionFailed
from executors.redaction import hide_named
from executors.sandbox.libraries import is_open_to_others
from executors.sandbox.results import plain

ANY: Final = "*"
_REQUIREMENT: Final = re.compile(PACKAGE + VERSIONS)
_NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")
PASSED_ON: Final = (
    "PATH",
    "HOME",
    "LANG",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
)
"""Of the worker's environment, beside pip's own: nothing that is the platform's."""
POLL_SECONDS: Final = 0.05
MAX_TOLD: Final = 2000


class Packages:
    """The folders of installed packages, one per list of requirements; shared by the processes of a worker."""

    def __init__(self, folder: Path, allowed: Iterable[str] = ()) -> None:
        """`allowed` are the names of packages that steps may ask for, or `*` for any; none: steps may not ask."""
        self._folder = folder
        self._allowed = frozenset(_normal(name) if name != ANY else ANY for name in allowed)

    def get(self, wanted: Sequence[str], until: float, cancelled: Event) -> Path:
        """The folder with these packages, installed now if nobody has before; `until` is monotonic.

        Raises: `ActionFailed` (`dependencies_refused`, `dependencies_failed`, `timeout`, `cancelled`).
        """
        self._check(wanted)
        place = self._folder / _key(wanted)
        if not place.is_dir():
            self._make(place, wanted, until, cancelled)
        if os.geteuid() == 0 and not is_open_to_others(str(place)):
            # Steps are other users then, and a folder above is closed to them.
            message = f"steps cannot enter {self._folder}: let others pass through the folders above it (chmod o+x)"
            raise ActionFailed("dependencies_failed", message)
        return place

    def _make(self, place: Path, wanted: Sequence[str], until: float, cancelled: Event) -> None:
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self._folder))
        try:
            _install(wanted, unfinished, until, cancelled)
            # Steps have users of their own, who may read it and not write.
            unfinished.chmod(0o755)
            try:
                unfinished.rename(place)
            except OSError:
                # Another process was quicker.
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _check(self, wanted: Sequence[str]) -> None:
        if not self._allowed:
            message = (
                f"the step depends on {', '.join(wanted)}, and this worker installs nothing for steps: "
                "have the packages installed with the worker, or named in NOETL_PYTHON_DEPENDENCIES"
            )
            raise ActionFailed("dependencies_refused", message)
        for text in wanted:
            if not _REQUIREMENT.fullmatch(text):
                raise ActionFailed("arguments_invalid", f"dependencies: {text!r} is no package with its versions")
            if ANY not in self._allowed and _normal(text) not in self._allowed:
                message = f"this worker does not install {text} for steps: NOETL_PYTHON_DEPENDENCIES does not name it"
                raise ActionFailed("dependencies_refused", message)


def _install(wanted: Sequence[str], target: Path, until: float, cancelled: Event) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
    # No build: it would run the package's code as the worker.
    command += ["--only-binary", ":all:", "--target", str(target), "--", *wanted]
    environment = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("PIP_")}
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            failure = _wait(process, until, cancelled)
        finally:
            _end(process)
        if failure is not None:
            raise failure
        if process.returncode:
            told.seek(0)
            # An index's address may hold a password.
            why = hide_named(plain(told.read().decode(errors="replace")).strip())[-MAX_TOLD:]
            raise ActionFailed("dependencies_failed", f"{', '.join(wanted)} cannot be installed: {why}")


def _wait(process: subprocess.Popen[bytes], until: float, cancelled: Event) -> ActionFailed | None:
    while process.poll() is None:
        if cancelled.wait(POLL_SECONDS):
            return ActionFailed("cancelled", "stopped because the job was cancelled")
        if time.monotonic() >= until:
            return ActionFailed("timeout", "the step's dependencies were not installed in time")
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _normal(text: str) -> str:
    """A package's name as indexes compare it, without versions."""
    found = _NAME.match(text.strip())
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


def _key(wanted: Sequence[str]) -> str:
    text = "\n".join([sys.version, *sorted(re.sub(r"\s+", "", each) for each in wanted)])
    return hashlib.sha256(text.encode()).hexdigest()
