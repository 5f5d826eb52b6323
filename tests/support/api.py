"""Clients of the API, in this process: one per role, with a token as a user has it."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from noetl_site.access.tokens import create_token, ensure_service_account
from tests.support.books import CHAIN


class Api:
    """A client with a token, or without one. Names of places are below `/api/`."""

    def __init__(self, token: str | None = None) -> None:
        self.client = APIClient(raise_request_exception=False)
        if token is not None:
            self.client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    def get(self, place: str, **query: Any) -> Any:
        return self.client.get(f"/api/{place}", query)

    def post(self, place: str, body: Any = None) -> Any:
        # As ASCII, so that a test can send whatever JSON can say.
        return self.send("POST", place, b"" if body is None else json.dumps(body).encode())

    def send(self, method: str, place: str, body: bytes = b"", type_: str = "application/json") -> Any:
        return self.client.generic(method, f"/api/{place}", body, type_)  # type: ignore[arg-type]  # bytes are fine

    def run(self, text: str = CHAIN, **parameters: Any) -> str:
        """Register a playbook and start it. Gives the execution's id."""
        registered = self.post("catalog/register", {"content": text}).json()
        started = self.post("executions/run", {"path": registered["resource_path"], "parameters": parameters})
        assert started.status_code == 201, started.content
        return str(started.json()["id"])

    def lease(self, worker: str = "w1", **more: Any) -> dict[str, Any]:
        """Lease a job that must be there."""
        answer = self.post("queue/lease", {"worker_id": worker, **more}).json()
        assert answer["status"] == "ok", answer
        return dict(answer["job"])


def api_as(*roles: str, name: str = "") -> Api:
    """A client for a program with these roles."""
    account = ensure_service_account(name or f"test-{'-'.join(roles)}", roles)
    return Api(create_token(account, "test"))


def admin_api() -> Api:
    """A client that may do everything."""
    user = User.objects.filter(username="boss").first() or User.objects.create_superuser("boss", password="x")
    return Api(create_token(user, "test"))
