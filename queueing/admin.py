"""Jobs and leases in the console: looked at, never changed there."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from unfold.admin import ModelAdmin
from unfold.decorators import display

from queueing.models import Job, LeaseHistory


@admin.register(Job)
class JobAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The queue."""

    list_display = ("id", "node_id", "kind", "status_pill", "attempts", "lost_leases", "worker_id", "created_at")
    list_filter = ("status", "kind", "pool")
    search_fields = ("node_id", "execution_id__exact", "worker_id")
    exclude: ClassVar = ("lease_token", "accepted_token")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    show_full_result_count = False

    @display(
        description="status",
        ordering="status",
        label={
            "queued": "info",
            "leased": "warning",
            "done": "success",
            "failed": "danger",
            "dead": "danger",
            "cancelled": "",
        },
    )
    def status_pill(self, job: Job) -> str:
        """The status in its colour."""
        return job.status


@admin.register(LeaseHistory)
class LeaseHistoryAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Every lease that was ever given."""

    list_display = ("id", "node_id", "attempt", "worker_id", "leased_at", "ended_at", "ending")
    list_filter = ("ending",)
    search_fields = ("node_id", "execution_id__exact", "worker_id")
    exclude: ClassVar = ("lease_token",)
    date_hierarchy = "leased_at"
    show_full_result_count = False
