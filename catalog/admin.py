"""Playbook versions in the console: looked at, never changed there."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from catalog.models import PlaybookVersion


@admin.register(PlaybookVersion)
class PlaybookVersionAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The list and the page of playbook versions, read-only."""

    list_display = ("path", "version", "created_at", "created_by")
    list_filter = ("created_at",)
    search_fields = ("path", "content")
    ordering = ("-id",)
    fields: ClassVar = (
        *("path", "version", "created_at", "created_by", "content_hash"),
        *("text", "warnings", "payload", "meta"),
    )
    readonly_fields = fields

    @admin.display(description="Content")
    def text(self, version: PlaybookVersion) -> str:
        """The text as given, line by line."""
        return format_html('<pre style="white-space: pre-wrap">{}</pre>', version.content)
