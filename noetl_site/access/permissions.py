"""The one permission check of the API: a view names what each of its methods needs, and nothing else is allowed.

A view that names nothing is closed to everybody: exemptions are written at the view, never by path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from noetl_site.access.roles import AUTHOR, OPERATOR, WORKER, permissions_of
from noetl_site.models import ApiToken


class NeededPermission(BasePermission):
    """Whether the request's user, within the scopes of its token, has what the view's `needs` say.

    `needs` maps a method to a permission, to several of which one is enough (`a|b`; the view finds those that are held
    in its `permitted`), or to the empty text: any authenticated user.
    """

    message = "you do not have the permission that this needs"

    def has_permission(self, request: Request, view: Any) -> bool:
        """Deny by default; a method that the view does not have is answered with 405 to those who are known."""
        needs: Mapping[str, str] = getattr(view, "needs", {})
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in needs:
            return request.user.is_authenticated and (method == "OPTIONS" or not hasattr(view, method.lower()))
        view.permitted = frozenset(name for name in needs[method].split("|") if may(request, name))
        return bool(view.permitted)


def may(request: Request, permission: str) -> bool:
    """Whether the request may do what the permission allows; the empty one stands for being known."""
    if not request.user.is_authenticated:
        return bool(settings.NOETL_API_ANONYMOUS) and permission in ANONYMOUS
    if isinstance(request.auth, ApiToken) and request.auth.scopes:
        scope = permissions_of(request.auth.scopes)
        if permission and scope is not None and permission not in scope:
            return False
    return not permission or bool(request.user.has_perm(permission))


ANONYMOUS = {"", *(permissions_of([OPERATOR, AUTHOR, WORKER]) or ())} - {"executors.resolve_credential"}
"""What everybody may do on a closed network that says `NOETL_API_ANONYMOUS=1`: everything but administration, and but
getting credentials in clear."""
