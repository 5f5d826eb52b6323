"""Starting executions over HTTP, again and again and at once: the one place that knows how tests of faults do it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.platform import Platform

ANSWER_SECONDS = 60


class NotAcknowledged(Exception):
    """A request got an error for an answer, or none: what it asked for may have happened or not."""


@dataclass
class Starter:
    """A client of a platform. `slowest_seconds` is the longest that a start has taken so far."""

    platform: Platform
    slowest_seconds: float = 0.0

    def start(
        self,
        path: str,
        parameters: dict[str, Any] | None = None,
        key: str | None = None,
        within: float = ANSWER_SECONDS,
    ) -> str:
        """Start an execution. Returns: its id. Raises: `NotAcknowledged`, also with no answer `within` seconds."""
        headers = {} if key is None else {"Idempotency-Key": key}
        begun_at = time.monotonic()
        told = self._post("executions/run", {"path": path, "parameters": parameters or {}}, headers, within)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun_at)
        return str(told["id"])

    def start_together(self, path: str, count: int) -> tuple[list[str], float]:
        """Start executions at the same moment. Returns: their ids, and the seconds that the slowest start took."""
        together = threading.Barrier(count)

        def start(_: int) -> tuple[str, float]:
            one = Starter(self.platform)
            together.wait()
            return one.start(path), one.slowest_seconds

        with ThreadPoolExecutor(count) as pool:
            started = list(pool.map(start, range(count)))
        slowest = max(seconds for _, seconds in started)
        self.slowest_seconds = max(self.slowest_seconds, slowest)
        return [execution_id for execution_id, _ in started], slowest

    def cancel(self, execution_id: str) -> bool:
        """Cancel an execution. Returns: whether it was this that ended it. Raises: `NotAcknowledged`."""
        return bool(self._post(f"executions/{execution_id}/cancel", {"reason": "enough"}, {})["cancelled"])

    def _post(
        self, place: str, body: dict[str, Any], headers: dict[str, str], within: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        headers = {
            **headers,
            "Authorization": f"Bearer {self.platform.ready['token']}",
            "Content-Type": "application/json",
        }
        connection = http.client.HTTPConnection(urlsplit(self.platform.ready["url"]).netloc, timeout=within)
        try:
            connection.request("POST", f"/api/{place}", json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise NotAcknowledged(repr(error)) from error
        finally:
            connection.close()
        if answer.status not in (200, 201):
            raise NotAcknowledged(f"{answer.status} {text}")
        told: dict[str, Any] = json.loads(text)
        return told


def register(platform: Platform, folder: Path, *texts: str) -> None:
    """Put playbooks into the platform's catalog."""
    for nth, text in enumerate(texts):
        (folder / f"book{nth}.yaml").write_text(text)
    platform.manage("register", str(folder))
