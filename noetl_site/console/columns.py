"""Columns and fields of the platform's pages, dressed by their names: links, pills, nodes, durations, JSON.

So that an app's page says what is shown and knows no other app's pages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.utils import label_for_field, lookup_field
from django.core.exceptions import FieldDoesNotExist
from django.core.paginator import Paginator
from django.db.models import Func, JSONField, Model, QuerySet
from django.db.models.fields import BigIntegerField
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.views import ChangeList

from noetl_site.console import values
from noetl_site.console.values import Viewer


def _same(value: Any, row: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Reference:
    """A column that names a row of another model."""

    label: str
    heading: str
    text: Callable[[Any, Any], Any] = _same
    """What the link says, of the value and the row."""


REFERENCES: Final = {
    "playbook_version_id": Reference(
        "catalog.playbookversion", "playbook", lambda value, row: f"{row.path} {row.version}"
    ),
    "execution_id": Reference("executions.execution", "execution"),
    "parent_execution_id": Reference("executions.execution", "parent execution"),
    "job_id": Reference("queueing.job", "job"),
}
HEADINGS: Final = {"node_id": "node", "worker_id": "worker"}
PILLS: Final = frozenset({"status", "ending"})
TEXTS: Final = frozenset({"content", "stack_trace", "evaluation_error"})
"""Fields of several lines."""


def dress(page: ModelAdmin[Any], name: str, user: Viewer) -> Any:
    """A column or field as this user sees it: its name, or a function of the row."""
    show = _shown_as(page, name, user)
    if show is None:
        return name

    def shown(row: Model) -> Any:
        _, _, value = lookup_field(name, row, page)
        says_nothing = value is None or value == "" or (name == "duration" and not value)
        return None if says_nothing and name not in PILLS else show(value, row)

    # Not the field's own name: Django would add the field's help, which speaks of the stored value.
    shown.__name__ = f"shown_{name}"
    shown.short_description = _heading(page, name)  # type: ignore[attr-defined]  # what Django reads of a column
    shown.admin_order_field = _order_of(page, name)  # type: ignore[attr-defined]  # the same
    return shown


def _shown_as(page: ModelAdmin[Any], name: str, user: Viewer) -> Callable[[Any, Any], Any] | None:
    if reference := REFERENCES.get(name):
        return lambda value, row: values.show_link(user, reference.label, value, reference.text(value, row))
    if name in PILLS:
        return lambda value, row: values.show_pill(value or "held")
    if name == "node_id":
        return lambda value, row: values.show_node(value)
    if name == "worker_id":
        return _same
    if name == "duration":
        return lambda value, row: values.describe_duration(value)
    if name in TEXTS:
        return lambda value, row: values.show_code(value)
    if isinstance(_field(page, name), JSONField):
        return lambda value, row: values.show_json(value)
    return None


def _heading(page: ModelAdmin[Any], name: str) -> str:
    if reference := REFERENCES.get(name):
        return reference.heading
    return HEADINGS.get(name) or str(label_for_field(name, page.model, page))


def _field(page: ModelAdmin[Any], name: str) -> Any:
    try:
        return page.model._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def _order_of(page: ModelAdmin[Any], name: str) -> str | None:
    if _field(page, name) is not None:
        return name
    order: str | None = getattr(getattr(page, name), "admin_order_field", None)
    return order


def is_empty(page: ModelAdmin[Any], name: str, row: Model) -> bool:
    """Whether a field says nothing about a row."""
    _, _, value = lookup_field(name, row, page)
    return name not in PILLS and (value is None or value in ("", {}, []))


class When(SimpleListFilter):
    """Rows of the last hour, day or week, found by their ids, which are in the order of time."""

    title = "when"
    parameter_name = "when"
    spans: Final = {
        "hour": ("The last hour", 3600),
        "day": ("The last 24 hours", 86_400),
        "week": ("The last 7 days", 604_800),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        """The spans to choose from."""
        return [(name, title) for name, (title, _) in self.spans.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the chosen span."""
        span = self.spans.get(self.value() or "")
        if span is None:
            return queryset
        begin = Func(function="clock_now", template="%(function)s() - interval '%(seconds)s seconds'", seconds=span[1])
        first = Func(begin, function="id_at", output_field=BigIntegerField())
        return queryset.filter(pk__gte=first)


class BoundedChangeList(ChangeList):  # type: ignore[misc]  # unfold has no types
    """The rows of a huge table: what is not counted is not told."""

    def get_results(self, request: HttpRequest) -> None:
        """As Django's; the list's header then says no number."""
        super().get_results(request)
        self.full_result_count = self.result_count


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # generic in its stubs only
    """Pages over a table that may be huge: it counts no further than `most` rows."""

    most = 10_000
    template_name = "console/pagination.html"

    @cached_property
    def count(self) -> int:
        """How many rows there are, or `most` when there are more."""
        rows = cast("QuerySet[Any]", self.object_list)
        counted = rows.order_by()[: self.most + 1].count()
        self.is_cut = counted > self.most
        return min(counted, self.most)
