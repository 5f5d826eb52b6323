"""Making, listing and ending API tokens, and the accounts of programs that use them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet

from noetl_site.access.errors import AccessError, TokenNotFound, UserNotFound
from noetl_site.access.roles import NAMES
from noetl_site.models import ApiToken

MAX_DAYS: Final = 3650


def create_token(user: User, name: str, scopes: Sequence[str] = (), days: int | None = None) -> str:
    """Make a token of a user, narrowed to the roles in `scopes` when there are any. Returns: it, never kept.

    Raises: `AccessError` for an unknown role or a length of time that is none.
    """
    _check_roles(scopes)
    if days is not None and not 0 < days <= MAX_DAYS:
        raise AccessError(f"a token lasts 1 to {MAX_DAYS} days, or for ever when no days are given")
    expiry = None if days is None else timedelta(days=days)
    _, token = ApiToken.objects.create(user=user, expiry=expiry, name=name, scopes=list(scopes))
    return str(token)


def find_user(username: str) -> User:
    """An active user by name. Raises: `UserNotFound`."""
    found = User.objects.filter(username=username, is_active=True).first()
    if found is None:
        raise UserNotFound(f"there is no active user {username!r}")
    return found


def ensure_service_account(username: str, roles: Sequence[str]) -> User:
    """The account of a program: it holds these roles and nothing else, and nobody logs in as it.

    Raises: `AccessError` for an unknown role, or when a person has this name.
    """
    _check_roles(roles)
    with transaction.atomic():
        account, created = User.objects.get_or_create(username=username)
        if created:
            account.set_unusable_password()
            account.save()
        elif account.has_usable_password():
            raise AccessError(f"{username!r} is a person's account: name the program otherwise, or use --user")
        account.groups.set(Group.objects.filter(name__in=roles))
    return account


def list_tokens() -> QuerySet[ApiToken]:
    """All tokens with their users, the newest first."""
    tokens: QuerySet[ApiToken] = ApiToken.objects.select_related("user").order_by("-created")
    return tokens


def delete_token(reference: str) -> None:
    """End a token by its id. Raises: `TokenNotFound`."""
    known = reference.isascii() and reference.isdigit() and len(reference) < 19
    deleted = ApiToken.objects.filter(id=int(reference)).delete()[0] if known else 0
    if not deleted:
        raise TokenNotFound(f"there is no token {reference!r}; `manage.py tokens ls` lists their ids")


def _check_roles(roles: Sequence[str]) -> None:
    for role in roles:
        if role not in NAMES:
            raise AccessError(f"{role!r} is no role: {', '.join(NAMES)}")
