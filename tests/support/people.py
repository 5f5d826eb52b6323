"""Users of the console with just the permissions that a test gives them."""

from __future__ import annotations

from django.contrib.auth.models import Permission, User
from django.test import Client


def log_in(*permissions: str, superuser: bool = False) -> Client:
    """A browser of a staff user with these permissions (`queueing.view_job`)."""
    name = "boss" if superuser else "ada"
    user = User.objects.create_user(name, password="x", is_staff=True, is_superuser=superuser)
    user.user_permissions.set([_permission(name) for name in permissions])
    client = Client()
    client.force_login(user)
    return client


def _permission(name: str) -> Permission:
    app, _, codename = name.partition(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)
