"""The REST API, as far as the benchmark needs it: one kept connection per client."""

from __future__ import annotations

import json
from typing import Any

import urllib3

from benchmarks.platform import Platform


class Refused(Exception):
    """The server's answer was not what was asked for."""


class Client:
    """One client. It is for one thread at a time."""

    def __init__(self, platform: Platform) -> None:
        self._pool = urllib3.connectionpool.connection_from_url(platform.url, maxsize=1, timeout=120)
        self._headers = {"Authorization": f"Bearer {platform.token}", "Content-Type": "application/json"}

    def post(self, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """One request. Raises: `Refused`."""
        reply = self._pool.request(
            "POST", f"/api/{path}", body=json.dumps(body), headers=self._headers | headers, retries=False
        )
        if reply.status >= 300:
            raise Refused(f"POST {path}: {reply.status} {reply.data[:2000].decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(reply.data)
        return answer

    def register(self, playbook: tuple[str, str]) -> str:
        """Have the playbook in the catalog. Returns: its path."""
        path, text = playbook
        self.post("catalog/register", {"content": text})
        return path

    def start(self, path: str, **payload: Any) -> int:
        """Start an execution of the newest version. Returns: its id."""
        answer = self.post("executions/run", {"path": path, "parameters": payload})
        return int(answer["result"]["execution_id"])

    def close(self) -> None:
        """Let go of the connection."""
        self._pool.close()
