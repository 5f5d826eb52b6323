"""Executions and their events in the console: looked at, never changed there."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from unfold.admin import ModelAdmin
from unfold.decorators import display

from executions.models import EventLog, Execution


@admin.register(Execution)
class ExecutionAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """What ran and what runs."""

    list_display = ("id", "path", "version", "status_pill", "created_at", "ended_at", "created_by")
    list_filter = ("status", "path")
    search_fields = ("id__exact", "path")
    exclude: ClassVar = ("state", "request_hash")
    date_hierarchy = "created_at"
    show_full_result_count = False

    @display(
        description="status",
        ordering="status",
        label={
            "pending": "info",
            "running": "info",
            "paused": "warning",
            "completed": "success",
            "failed": "danger",
            "cancelled": "",
        },
    )
    def status_pill(self, execution: Execution) -> str:
        """The status in its colour."""
        return execution.status


@admin.register(EventLog)
class EventLogAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The event log."""

    list_display = ("event_id", "execution_id", "seq", "event_type", "node_id", "status", "timestamp")
    list_filter = ("event_type",)
    search_fields = ("execution_id__exact", "node_id__startswith")
    ordering = ("-execution_id", "seq")
    show_full_result_count = False
