"""Playbook versions in the console: looked at, never changed there."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from unfold.admin import ModelAdmin

from catalog.models import PlaybookVersion


@admin.register(PlaybookVersion)
class PlaybookVersionAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The list and the page of playbook versions, read-only."""

    empty_text = "Register a first playbook from a terminal: manage.py register examples/hello.yaml"
    list_display = ("path", "version", "warning_count", "created_at", "created_by")
    list_filter = ("created_at",)
    search_fields = ("path", "content")
    search_help_text = "A path, or words of the playbook"
    list_defer = ("content", "payload", "meta")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    fieldsets: ClassVar = [
        (None, {"fields": ["path", "version", "created_at", "created_by", "warnings", "meta", "content_hash"]}),
        ("Playbook", {"fields": ["content"]}),
        ("Normalised form, which executions run", {"fields": ["payload"], "classes": ["collapse"]}),
    ]

    @admin.display(description="Warnings")
    def warning_count(self, version: PlaybookVersion) -> int:
        """How many things registration warned of."""
        return len(version.warnings)
