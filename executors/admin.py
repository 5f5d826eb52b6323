"""Components and credentials in the console: looked at, never changed there; a credential's data is never shown."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from unfold.admin import ModelAdmin
from unfold.decorators import display

from executors.models import Credential, Runtime


@admin.register(Runtime)
class RuntimeAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Who is running."""

    list_display = ("name", "component_type", "status_pill", "capacity", "last_heartbeat")
    list_filter = ("component_type", "status")
    search_fields = ("name",)

    @display(description="status", ordering="status", label={"ready": "success", "offline": "danger"})
    def status_pill(self, component: Runtime) -> str:
        """The status in its colour."""
        return component.status


@admin.register(Credential)
class CredentialAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Stored credentials, without their data."""

    list_display = ("name", "type", "description", "updated_at")
    list_filter = ("type",)
    search_fields = ("name", "description")
    exclude: ClassVar = ("data_encrypted",)
