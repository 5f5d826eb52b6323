"""Who asks, and which lease they speak of."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from queueing.api import Claim, Fence, find_fence


def principal_of(request: Request) -> str:
    """The API token or the user that asks: a lease belongs to whoever asked for it."""
    token: Any = request.auth
    if token is not None:
        return f"token:{token.id}"
    return f"user:{request.user.pk}" if request.user.is_authenticated else "anonymous"


def claim_of(request: Request, given: dict[str, Any]) -> Claim:
    """The claim of a request whose valid body is `given`."""
    token = given.get("lease_token")
    return Claim(principal_of(request), given.get("worker_id"), None if token is None else str(token))


def fence_of(request: Request, job_id: int, given: dict[str, Any]) -> Fence:
    """The fence of the lease that the request speaks of. Raises: `JobNotFound`, `LeaseLost`."""
    return find_fence(job_id, claim_of(request, given))
