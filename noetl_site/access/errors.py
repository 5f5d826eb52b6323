"""What can go wrong with users and tokens, each with a stable code. No HTTP and no exit codes here."""

from __future__ import annotations


class AccessError(Exception):
    """A token cannot be made or found; the message says why."""

    code = "access_error"


class UserNotFound(AccessError):
    """No user has this name."""

    code = "user_not_found"


class TokenNotFound(AccessError):
    """No token has this id or beginning."""

    code = "token_not_found"
