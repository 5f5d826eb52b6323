"""Jobs and leases in the console: looked at, never changed there; the tokens of leases are never shown."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from unfold.admin import ModelAdmin

from queueing.models import Job, LeaseHistory


@admin.register(Job)
class JobAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The queue."""

    empty_text = "Jobs come from executions. Start a playbook from a terminal: manage.py run examples/hello.yaml"
    list_display = (
        "node_id",
        "execution_id",
        "kind",
        "status",
        "pool",
        "priority",
        "attempts",
        "worker_id",
        "created_at",
    )
    list_filter = ("status", "pool", "origin")
    search_fields = ("id__exact", "execution_id__exact", "node_name", "worker_id")
    search_help_text = "A job, an execution, a step or a worker"
    exclude: ClassVar = ("lease_token", "accepted_token")
    list_defer = ("action", "context")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    show_full_result_count = False
    fieldsets: ClassVar = [
        (None, {"fields": ["status", "execution_id", "node_id", "id", "kind", "origin"]}),
        ("Lease", {"fields": ["worker_id", "lease_until", "last_heartbeat", "cancel_requested_at"]}),
        ("Counted", {"fields": ["attempts", "lost_leases", "max_attempts", "tries"]}),
        (
            "Queued",
            {"fields": ["pool", "priority", "round", "limit_keys", "limit_maxs", "parked_by", "timeout_seconds"]},
        ),
        ("Time", {"fields": ["available_at", "created_at", "finished_at"]}),
        ("What is to be done", {"fields": ["action", "context", "uuid"]}),
    ]


@admin.register(LeaseHistory)
class LeaseHistoryAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Every lease that was ever given."""

    empty_text = "No worker has taken a job yet."
    list_display = ("node_id", "attempt", "job_id", "execution_id", "worker_id", "ending", "leased_at", "duration")
    list_filter = ("ending",)
    search_fields = ("job_id__exact", "execution_id__exact", "worker_id")
    search_help_text = "A job, an execution or a worker"
    exclude: ClassVar = ("lease_token",)
    date_hierarchy = "leased_at"
    show_full_result_count = False
    fieldsets: ClassVar = [
        (None, {"fields": ["job_id", "execution_id", "node_id", "attempt", "worker_id"]}),
        ("Time", {"fields": ["leased_at", "ended_at", "ending", "duration"]}),
    ]

    @admin.display(description="duration")
    def duration(self, lease: LeaseHistory) -> float | None:
        """Seconds that it was held; none while it is."""
        return (lease.ended_at - lease.leased_at).total_seconds() if lease.ended_at else None
