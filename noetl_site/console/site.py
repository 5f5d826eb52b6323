"""The console's site: what the engine's transactions write is looked at here and changed by services only.

The apps' pages say what is shown of their own rows; the site adds what crosses apps: links, panels, operations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from django.contrib.admin import ModelAdmin, ShowFacets
from django.db.models import Model, QuerySet
from django.db.models.base import ModelBase
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.sites import UnfoldAdminSite

from noetl_site.console import columns, panels
from noetl_site.console.actions import CancelsExecutions, RepairsJobs
from noetl_site.console.dashboard import dashboard

SHOWN_ONLY: Final = frozenset({"catalog", "queueing", "executions", "executors"})
"""Apps whose rows come from the engine's transactions only."""

OPERATIONS: Final[dict[str, type]] = {panels.EXECUTION: CancelsExecutions, panels.JOB: RepairsJobs}
"""Pages with actions."""

HUGE: Final = frozenset({panels.EXECUTION, panels.EVENT, panels.JOB, panels.LEASE})
"""Tables that are never counted to their end."""


class ShownOnly(ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """A page that shows and never saves. What a page excludes is neither loaded nor searched for.

    A page's `list_defer` names the fields that its list does without.
    """

    change_form_outer_before_template = "console/panels.html"
    list_before_template = "console/narrowed.html"
    list_per_page = 50
    # They would count a whole table once per choice of a filter.
    show_facets = ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """As Django's; an address cannot ask for what is not shown, letter by letter."""
        hidden = lookup.split("__")[0] in (self.exclude or ())
        return not hidden and super().lookup_allowed(lookup, value, request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, without what is not shown there."""
        rows = super().get_queryset(request).defer(*(self.exclude or ()))
        is_list = request.resolver_match is not None and "object_id" not in request.resolver_match.kwargs
        return rows.defer(*getattr(self, "list_defer", ())) if is_list else rows

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """The columns, dressed."""
        return [columns.dress(self, str(name), request.user) for name in super().get_list_display(request)]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """The page's filters; for huge tables also by time."""
        filters = list(super().get_list_filter(request))
        return [columns.When, *filters] if self._is_huge else filters

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        """As Unfold's; for huge tables one that does not ask how many rows there are in all."""
        return columns.BoundedChangeList if self._is_huge else super().get_changelist(request, **kwargs)

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any) -> Any:
        """As Django's; for huge tables one that does not count them."""
        if self._is_huge:
            return columns.BoundedPaginator(queryset, per_page, *args, **kwargs)
        return super().get_paginator(request, queryset, per_page, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[tuple[Any, Any]]:
        """The page's fields, dressed; without those that say nothing of this row."""
        dressed = []
        for title, options in super().get_fieldsets(request, obj):
            names = [str(name) for name in options["fields"]]
            if obj is not None:
                names = [name for name in names if not columns.is_empty(self, name, obj)]
            if names:
                shown = [columns.dress(self, name, request.user) for name in names]
                dressed.append((title, {**options, "fields": shown}))
        return dressed

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """As Django's, with the row's panels."""
        context["panels"] = panels.panels_of(request.user, kwargs["obj"], request.GET.dict())
        return super().render_change_form(request, context, *args, **kwargs)

    @property
    def _is_huge(self) -> bool:
        return self.opts.label_lower in HUGE


class ConsoleSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold has no types
    """Registers the platform's tables as shown only, whatever their own page says."""

    index_template = "console/index.html"
    index_title = "Overview"

    def register(
        self, model_or_iterable: ModelBase | Iterable[ModelBase], admin_class: type | None = None, **options: Any
    ) -> None:
        """As Django's; pages of the platform's apps lose what would change a row."""
        models = [model_or_iterable] if isinstance(model_or_iterable, ModelBase) else list(model_or_iterable)
        for model in models:
            page = admin_class or ModelAdmin
            meta = cast(type[Model], model)._meta
            if meta.app_label in SHOWN_ONLY:
                operations = [OPERATIONS[meta.label_lower]] if meta.label_lower in OPERATIONS else []
                about = {"__module__": page.__module__, "__doc__": page.__doc__}
                page = type(page.__name__, (ShownOnly, *operations, page), about)
            super().register(model, page, **options)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The overview."""
        shown: TemplateResponse = super().index(request, {**(extra_context or {}), **dashboard(request.user)})
        return shown
