"""The console's site: what the engine's transactions write is looked at here and changed nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.db.models.base import ModelBase
from django.http import HttpRequest
from unfold.sites import UnfoldAdminSite

SHOWN_ONLY: Final = frozenset({"catalog", "queueing", "executions", "executors"})
"""Apps whose rows come from the engine's transactions only."""


class ShownOnly:
    """A page that shows and never changes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False


class ConsoleSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold has no types
    """Registers the platform's tables as shown only, whatever their own page says."""

    def register(
        self, model_or_iterable: ModelBase | Iterable[ModelBase], admin_class: type | None = None, **options: Any
    ) -> None:
        """As Django's; pages of the platform's apps lose what would change a row."""
        models = [model_or_iterable] if isinstance(model_or_iterable, ModelBase) else list(model_or_iterable)
        for model in models:
            page = admin_class or ModelAdmin
            if cast(type[Model], model)._meta.app_label in SHOWN_ONLY:
                page = type(page.__name__, (ShownOnly, page), {"__module__": page.__module__, "__doc__": page.__doc__})
            super().register(model, page, **options)
