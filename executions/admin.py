"""Executions and their events in the console: looked at, never changed there."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from executions.domain import events as ev
from executions.models import EventLog, Execution


@admin.register(Execution)
class ExecutionAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """What ran and what runs."""

    empty_text = "Start a playbook from a terminal: manage.py run examples/hello.yaml"
    list_display = ("id", "playbook_version_id", "status", "duration", "created_at", "created_by")
    list_filter = ("status",)
    search_fields = ("id__exact", "path")
    search_help_text = "An execution's id, or a playbook's path"
    exclude: ClassVar = ("state", "request_hash")
    list_defer = ("workload", "result", "error", "meta")
    date_hierarchy = "created_at"
    show_full_result_count = False
    fieldsets: ClassVar = [
        (None, {"fields": ["created_by", "created_at", "started_at", "ended_at", "updated_at", "last_seq"]}),
        ("Given", {"fields": ["workload", "idempotency_key", "meta"]}),
        ("Parent", {"fields": ["parent_execution_id", "parent_node_id"]}),
        ("Evaluation", {"fields": ["needs_evaluation_since", "failures", "evaluation_error"]}),
        ("Error", {"fields": ["error"]}),
    ]

    @admin.display(description="evaluation failures")
    def failures(self, execution: Execution) -> int | None:
        """How often its evaluation has failed since it last went well; none when it has not."""
        return execution.evaluation_failures or None

    @admin.display(description="duration")
    def duration(self, execution: Execution) -> float | None:
        """Seconds from the start to the end; none while it runs."""
        return (execution.ended_at - execution.created_at).total_seconds() if execution.ended_at else None


class EventTypeFilter(admin.SimpleListFilter):
    """By the type of the event; the types are known, so that the log is not asked for them."""

    title = "event"
    parameter_name = "event_type"
    types = (
        *(ev.EXECUTION_START, ev.EXECUTION_COMPLETED, ev.EXECUTION_FAILED, ev.EXECUTION_CANCELLED),
        *(ev.STEP_STARTED, ev.STEP_SKIP, ev.STEP_COMPLETED, ev.STEP_FAILED),
        *(ev.ACTION_STARTED, ev.ACTION_COMPLETED, ev.ACTION_ERROR, ev.LEASE_LOST, ev.LATE_RESULT),
        *(ev.LOOP_START, ev.LOOP_ITERATION, ev.LOOP_COMPLETED, ev.TRANSITION_EVALUATED, ev.WARNING),
    )

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every type."""
        return [(type_, type_) for type_ in self.types]

    def queryset(self, request: HttpRequest, queryset: QuerySet[EventLog]) -> QuerySet[EventLog]:
        """The events of the chosen type."""
        return queryset.filter(event_type=self.value()) if self.value() else queryset


@admin.register(EventLog)
class EventLogAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The event log: everywhere the newest first, within one execution in its order."""

    empty_text = "Start a playbook from a terminal: manage.py run examples/hello.yaml"
    list_display = ("seq", "event_type", "node_id", "status", "duration", "execution_id", "timestamp")
    list_filter = (EventTypeFilter,)
    # What they mean here is in get_search_results.
    search_fields = ("execution_id",)
    search_help_text = "An execution's id, or a node's id: 123:step"
    list_defer = ("context", "result", "meta", "error", "stack_trace", "current_item")
    show_full_result_count = False
    sortable_by = ()
    fieldsets: ClassVar = [
        (None, {"fields": ["execution_id", "seq", "event_type", "node_id", "node_name", "node_type", "status"]}),
        ("When and where", {"fields": ["timestamp", "duration", "worker_id"]}),
        ("Loop", {"fields": ["loop_name", "current_index", "current_item"]}),
        ("What it carries", {"fields": ["error", "stack_trace", "result", "context", "meta"]}),
    ]

    def get_ordering(self, request: HttpRequest) -> list[str]:
        """Each way an index gives it."""
        return ["seq"] if "execution_id" in request.GET else ["-event_id"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[EventLog], search_term: str
    ) -> tuple[QuerySet[EventLog], bool]:
        """Within one execution, whose events an index finds; other words would read the whole log."""
        text = search_term.strip()
        if not text:
            return queryset, False
        number = text.partition(":")[0]
        if not (number.isascii() and number.isdigit() and int(number) < 2**63):
            return queryset.none(), False
        found = queryset.filter(execution_id=int(number))
        return (found.filter(node_id__startswith=text) if ":" in text else found), False
