"""Tokens at the door of the API: `Authorization: Bearer noetl_...`, looked up by digest (knox)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from django.db.models import DateTimeField, Func
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from noetl_site.access.lookup import find_in_use
from noetl_site.models import ApiToken

CLOCK: Final = Func(function="clock_now", output_field=DateTimeField())
_SHAPE: Final = re.compile(rb"[a-z]{0,10}_?[0-9a-f]{64}")
_USE_IS_KEPT: Final = timedelta(minutes=1)
"""How old the last recorded use of a token may be: a write for every request would cost more than the request."""


class BearerToken(TokenAuthentication):  # type: ignore[misc]  # knox has no types
    """Knox' authentication, for well-shaped tokens only: it passes anything on to the database."""

    def authenticate_credentials(self, token: bytes) -> Any:
        """The user and the token. Raises: `AuthenticationFailed`."""
        if not _SHAPE.fullmatch(token):
            raise AuthenticationFailed("Invalid token.")
        if (known := find_in_use(token.decode(), _USE_IS_KEPT.total_seconds())) is not None:
            return known
        # Knox' own way: it refuses, and deletes what has expired of this user's tokens. The database's clock tells
        # the time of the use, as it will be asked how long ago it was.
        user, found = super().authenticate_credentials(token)
        ApiToken.objects.filter(pk=found.pk).update(last_used_at=CLOCK)
        return user, found
