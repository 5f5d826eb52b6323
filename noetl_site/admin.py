"""Users, groups and API tokens in the console's own look."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from noetl_site.models import ApiToken

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]  # unfold has no types
    """Who may enter."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """What may be done, by name."""

    empty_text = "A group gives its users permissions: add one with the button above."


@admin.register(ApiToken)
class ApiTokenAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Who reaches the API with what; a token is ended here, and made where it can be printed once."""

    empty_text = "Make one from a terminal: manage.py tokens create --service NAME --role ROLE"
    list_display = ("name", "user", "begins", "narrowed_to", "created", "expiry", "last_used_at")
    list_filter = ("user",)
    list_select_related = ("user",)
    search_fields = ("name", "user__username", "token_key")
    ordering = ("-created",)
    fields: ClassVar = list_display
    readonly_fields = fields
    actions_on_top = True

    @admin.display(description="begins with", ordering="token_key")
    def begins(self, token: ApiToken) -> str:
        """What people know it by."""
        return f"{token.token_key}…"

    @admin.display(description="only as")
    def narrowed_to(self, token: ApiToken) -> str | None:
        """Its scopes."""
        return ", ".join(token.scopes) or None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: the console would have to show the token."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        """Never."""
        return False
