"""Tokens at the door of the API: `Authorization: Bearer noetl_...`, looked up by digest (knox)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from noetl_site.models import ApiToken

_SHAPE: Final = re.compile(rb"[a-z]{0,10}_?[0-9a-f]{64}")
_USE_IS_KEPT: Final = timedelta(minutes=1)
"""How old the last recorded use of a token may be: a write for every request would cost more than the request."""


class BearerToken(TokenAuthentication):  # type: ignore[misc]  # knox has no types
    """Knox' authentication, for well-shaped tokens only: it passes anything on to the database."""

    def authenticate_credentials(self, token: bytes) -> Any:
        """The user and the token. Raises: `AuthenticationFailed`."""
        if not _SHAPE.fullmatch(token):
            raise AuthenticationFailed("Invalid token.")
        user, found = super().authenticate_credentials(token)
        now = timezone.now()
        if found.last_used_at is None or now - found.last_used_at > _USE_IS_KEPT:
            ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
        return user, found
