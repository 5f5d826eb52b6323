"""The table of API tokens."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Func
from knox.models import AbstractAuthToken


class ApiToken(AbstractAuthToken):  # type: ignore[misc]  # knox has no types
    """One token of one user. Only its digest is kept; `token_key` is its beginning, by which people know it."""

    id = models.BigIntegerField(
        unique=True, db_default=Func(function="next_id", output_field=models.BigIntegerField()), editable=False
    )
    name = models.TextField(help_text="What it is for.")
    scopes = models.JSONField(
        default=list, blank=True, help_text="Roles it is narrowed to; empty: all that its user may do."
    )
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")

    class Meta:
        db_table = "api_token"
        ordering: ClassVar = ["-created"]
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.token_key}…)"
