"""The tables of the worker's side: who is running, and the stored credentials."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Func

CLOCK = Func(function="clock_now", output_field=models.DateTimeField())
"""The database's clock as a column default (rule R4)."""

NEXT_ID = Func(function="next_id", output_field=models.BigIntegerField())


class Runtime(models.Model):
    """One component of the platform that has announced itself: a server, a worker pool, a reconciler.

    `offline` means that it said goodbye, or that its heartbeat is older than the sweep allows.
    """

    class ComponentType(models.TextChoices):
        WORKER_POOL = "worker_pool"
        SERVER_API = "server_api"
        BROKER = "broker"

    class Status(models.TextChoices):
        READY = "ready"
        OFFLINE = "offline"

    runtime_id = models.BigIntegerField(primary_key=True, db_default=NEXT_ID)
    name = models.TextField()
    component_type = models.TextField(choices=ComponentType.choices)
    base_url = models.TextField(db_default="")
    status = models.TextField(choices=Status.choices, db_default=Status.READY)
    principal = models.TextField(db_default="", help_text="Who announced it over the API; empty: the platform itself.")
    labels = models.JSONField(default=dict)
    capabilities = models.JSONField(default=dict)
    capacity = models.IntegerField(null=True)
    runtime = models.JSONField(default=dict, help_text="type, pid, hostname and what else it tells of itself.")
    last_heartbeat = models.DateTimeField(db_default=CLOCK)
    created_at = models.DateTimeField(db_default=CLOCK)
    updated_at = models.DateTimeField(db_default=CLOCK)

    class Meta:
        db_table = "runtime"
        ordering: ClassVar = ["component_type", "name"]
        permissions: ClassVar = [
            ("announce_pool", "Can announce worker pools"),
            ("announce_server", "Can announce servers and brokers"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["component_type", "name"], name="runtime_one_per_name"),
            models.CheckConstraint(
                name="runtime_component_known",
                condition=models.Q(component_type__in=["worker_pool", "server_api", "broker"]),
            ),
            models.CheckConstraint(name="runtime_status_known", condition=models.Q(status__in=["ready", "offline"])),
        ]

    def __str__(self) -> str:
        return f"{self.get_component_type_display()} {self.name}"


EVERY_PATH = models.Value(["*"], models.JSONField())


def every_path() -> list[str]:
    """The scopes of a credential that every playbook may use."""
    return ["*"]


class Credential(models.Model):
    """One named credential. Its data is encrypted and bound to the name; only a worker ever reads it in clear.

    Playbooks may use it whose path one of `scopes` matches. `key_id` tells the key that it is encrypted with.
    """

    id = models.BigIntegerField(primary_key=True, db_default=NEXT_ID)
    name = models.TextField(unique=True)
    type = models.TextField(db_default="generic")
    data_encrypted = models.TextField()
    key_id = models.TextField(db_default="", help_text="Which key it is encrypted with; empty: not known yet.")
    # Also in the database: a server of the last release may still be writing rows.
    scopes = models.JSONField(
        default=every_path, db_default=EVERY_PATH, help_text="Patterns of the paths of playbooks that may use it."
    )
    last_used_at = models.DateTimeField(null=True, help_text="To a minute: not every use is written.")
    last_used_by = models.BigIntegerField(null=True, help_text="The execution that used it then.")
    meta = models.JSONField(default=dict)
    tags = models.JSONField(default=list)
    description = models.TextField(db_default="")
    created_at = models.DateTimeField(db_default=CLOCK)
    updated_at = models.DateTimeField(db_default=CLOCK)

    class Meta:
        db_table = "credential"
        permissions: ClassVar = [("resolve_credential", "Can get the credentials that a job it holds names")]
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return f"credential {self.name}"
