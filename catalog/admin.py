"""Playbook versions in the console: looked at, never changed there."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
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
        *("content", "warnings", "payload", "meta"),
    )
    readonly_fields = fields
