"""From a step's `script` to its text: where it is allowed, how large it may be, and whether it is what was pinned."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Event, Lock
from typing import Final

from executors.actions.python import Script
from executors.contract import ActionFailed, Credential
from executors.scripts.files import read_file
from executors.scripts.places import MAX_BYTES, Asked
from executors.scripts.stores import StoreScripts
from executors.scripts.web import WebScripts
from executors.stores.http_calls import CheckedCalls

KEPT: Final = 64
"""Pinned scripts that a worker process keeps; each is as large as a script may be at most."""


class Scripts:
    """Fetches scripts for the jobs of one worker process. Thread-safe. What is pinned is fetched once."""

    def __init__(self, folder: Path | None, allowed_networks: Iterable[str] = ()) -> None:
        """`folder`: the only one whose files are scripts; None: none are. The networks are those of http steps."""
        self._folder = folder
        allowed = tuple(allowed_networks)
        self._web = WebScripts(allowed)
        stores = StoreScripts(CheckedCalls(allowed), self._web)
        self._lock = Lock()
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._places: Mapping[str, Callable[[Asked], bytes]] = {
            "file": lambda asked: read_file(self._folder, asked.address),
            "http": self._web.fetch,
            "s3": stores.from_s3,
            "gcs": stores.from_google,
        }

    def __call__(self, script: Script, credential: Credential | None, seconds: float, cancelled: Event) -> str:
        """The script's text.

        Raises: `ActionFailed` (`script_refused`, `script_unavailable`, `script_too_large`, `script_changed`,
        `extra_missing`, `credential_invalid`, `timeout`, `cancelled`).
        """
        if script.sha256 is not None and (known := self._known(script.sha256)) is not None:
            return known
        place, address = script.source
        data = self._places[place](Asked(address, credential, seconds, cancelled))
        if len(data) > MAX_BYTES:
            raise ActionFailed("script_too_large", f"the script {address} is larger than {MAX_BYTES} bytes")
        digest = hashlib.sha256(data).hexdigest()
        if script.sha256 not in (None, digest):
            message = f"the script {address} has the SHA-256 {digest}, and the step wants {script.sha256}"
            raise ActionFailed("script_changed", message)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ActionFailed("script_unavailable", f"the script {address} is no UTF-8 text") from None
        if script.sha256 is not None:
            self._keep(digest, text)
        return text

    def close(self) -> None:
        """Let go of connections."""
        self._web.close()

    def _known(self, digest: str) -> str | None:
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def _keep(self, digest: str, text: str) -> None:
        with self._lock:
            self._kept[digest] = text
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
