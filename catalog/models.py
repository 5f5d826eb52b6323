"""The table of playbook versions."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Func


class PlaybookVersion(models.Model):
    """One version of one playbook, immutable once written (a trigger refuses changes)."""

    id = models.BigIntegerField(
        primary_key=True, db_default=Func(function="next_id", output_field=models.BigIntegerField())
    )
    path = models.TextField(help_text="Place in the catalog, as team/daily/report.")
    version = models.TextField(help_text="0.1.0, then one patch more each time.")
    content = models.TextField(help_text="The YAML as it was given.")
    payload = models.JSONField(help_text="The normalised playbook, which executions run.")
    content_hash = models.TextField(help_text="SHA-256 of the content.")
    warnings = models.JSONField(default=list, help_text="What registration warned of.")
    meta = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Func(function="clock_now", output_field=models.DateTimeField()))
    created_by = models.TextField(db_default="", help_text="Who registered it.")

    class Meta:
        db_table = "catalog"
        ordering: ClassVar = ["-id"]
        permissions: ClassVar = [("register_playbookversion", "Can register playbooks")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["path", "version"], name="catalog_one_row_per_version")
        ]

    def __str__(self) -> str:
        return f"playbook {self.path}:{self.version}"
