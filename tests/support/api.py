"""Clients of the API, in this process: one per role, with a token as a user has it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from noetl_site.access.roles import ADMIN
from noetl_site.access.tokens import create_token, ensure_service_account
from tests.support.books import CHAIN


class Api:
    """A client with a token. Replies are checked to be JSON, or a problem document where they tell of one."""

    def __init__(self, token: str | None = None) -> None:
        self.client = APIClient(raise_request_exception=False)
        if token is not None:
            self.client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/{path}", query)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(f"/api/{path}", body, format="json", **headers)  # type: ignore[arg-type]  # headers

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


ALL = (ADMIN,)
