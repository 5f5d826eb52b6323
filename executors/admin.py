"""Components and credentials in the console: looked at, never changed there; a credential's data is never shown."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from executors.models import Credential, Runtime


@admin.register(Runtime)
class RuntimeAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Who is running."""

    empty_text = "Nobody has announced itself. Start the platform from a terminal: manage.py standalone"
    list_display = (
        "name",
        "component_type",
        "status",
        "host",
        "process",
        "capacity",
        "python_isolation",
        "last_heartbeat",
    )
    list_filter = ("component_type", "status")
    search_fields = ("name",)
    fieldsets: ClassVar = [
        (
            None,
            {
                "fields": [
                    "name",
                    "component_type",
                    "status",
                    "python_isolation",
                    "last_heartbeat",
                    "created_at",
                    "base_url",
                ]
            },
        ),
        ("What it tells of itself", {"fields": ["capacity", "runtime", "labels", "capabilities"]}),
    ]

    @admin.display(description="host")
    def host(self, component: Runtime) -> Any:
        """The machine it runs on."""
        return component.runtime.get("hostname")

    @admin.display(description="process")
    def process(self, component: Runtime) -> Any:
        """Its process there."""
        return component.runtime.get("pid")

    @admin.display(description="python isolation")
    def python_isolation(self, component: Runtime) -> Any:
        """How far it keeps python steps apart that ask for nothing else. Labels told over the API may be anything."""
        return component.labels.get("python_isolation") if isinstance(component.labels, dict) else None


@admin.register(Credential)
class CredentialAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Stored credentials, without their data."""

    empty_text = "Store one from a terminal: manage.py credentials set --help"
    list_display = (
        "name",
        "type",
        "scope_words",
        "last_used_at",
        "last_user",
        "description",
        "tag_words",
        "updated_at",
    )
    list_filter = ("type",)
    search_fields = ("name", "description")
    exclude: ClassVar = ("data_encrypted",)
    fieldsets: ClassVar = [
        (None, {"fields": ["name", "type", "description", "scope_words", "tag_words", "created_at", "updated_at"]}),
        ("Its use", {"fields": ["last_used_at", "last_user", "key_id"]}),
        ("More about it", {"fields": ["meta"]}),
    ]

    @admin.display(description="may be used by")
    def scope_words(self, credential: Credential) -> str:
        """The playbooks that may use it."""
        scopes = [str(scope) for scope in credential.scopes]
        return "every playbook" if "*" in scopes else ", ".join(scopes) or "none"

    @admin.display(description="last used by")
    def last_user(self, credential: Credential) -> Any:
        """The execution that used it last."""
        if credential.last_used_by is None:
            return None
        address = reverse("admin:executions_execution_change", args=[credential.last_used_by])
        return format_html('<a href="{}">{}</a>', address, credential.last_used_by)

    @admin.display(description="tags")
    def tag_words(self, credential: Credential) -> str:
        """Its tags in a row."""
        return ", ".join(map(str, credential.tags))
