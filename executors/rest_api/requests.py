"""What every view of the worker protocol asks of a request: its body, its query, who asks, and of which lease."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiResponse
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.serializers import Serializer

from queueing.api import Claim, Fence, find_fence

WORK: Final = "queueing.work_job"
LOST: Final = OpenApiResponse(description="The job is in other hands or over; nothing was written.")


def valid(view: GenericAPIView[Any], request: Request) -> dict[str, Any]:
    """The request's body, checked by the view's serializer; no body is an empty one."""
    given = view.get_serializer(data={} if request.data is None else request.data)
    given.is_valid(raise_exception=True)
    checked: dict[str, Any] = given.validated_data
    return checked


def asked_of(query: type[Serializer[Any]], request: Request) -> dict[str, Any]:
    """The request's query, checked by a serializer."""
    given = query(data=request.query_params.dict())
    given.is_valid(raise_exception=True)
    checked: dict[str, Any] = given.validated_data
    return checked


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
