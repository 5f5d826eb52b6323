"""The queue's tables."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q

CLOCK = Func(function="clock_now", output_field=models.DateTimeField())
"""The database's clock as a column default (rule R4)."""

CLOCK_MICROSECONDS = Func(
    function="clock_now",
    template="(extract(epoch FROM %(function)s()) * 1000000)::bigint",
    output_field=models.BigIntegerField(),
)

NEXT_ID = Func(function="next_id", output_field=models.BigIntegerField())


READY = Q(status="queued", held=False, parked_by__isnull=True)
"""What a worker may lease, now or at a later time."""

COUNTED = Q(status__in=["queued", "leased"], parked_by__isnull=True, limit_keys__isnull=False)
"""What has a place at its keys, or asks for one."""


class Job(models.Model):
    """One unit of work for a worker: the action of one node of an execution, rendered.

    `attempts` counts leases and is the fence; `lost_leases` counts those that ran out, against `max_attempts`;
    `tries` counts failures of the action against its `retry`. Never mixed (docs/language.md, "Retry").
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        LEASED = "leased"
        DONE = "done"
        FAILED = "failed"
        DEAD = "dead"
        CANCELLED = "cancelled"

    class Origin(models.TextChoices):
        ENGINE = "engine"
        EXTERNAL = "external"

    id = models.BigIntegerField(primary_key=True, db_default=NEXT_ID)
    execution_id = models.BigIntegerField()
    node_id = models.TextField()
    node_name = models.TextField()
    kind = models.TextField(help_text="Action kind.")
    action = models.JSONField(help_text="The rendered action: kind, arguments, inputs.")
    context = models.JSONField(default=dict)
    uuid = models.UUIDField(help_text="The same for every attempt.")
    item_index = models.IntegerField(null=True, help_text="Place of the item when the job is one of a loop.")
    origin = models.TextField(choices=Origin.choices, db_default=Origin.ENGINE)
    status = models.TextField(choices=Status.choices, db_default=Status.QUEUED)
    pool = models.TextField(db_default="default")
    priority = models.IntegerField(db_default=0, help_text="Higher first.")
    round = models.BigIntegerField(
        db_default=CLOCK_MICROSECONDS, help_text="Lower first: an execution has few jobs in each."
    )
    held = models.BooleanField(db_default=False, help_text="Its execution is paused: nobody may lease it.")
    limit_keys = ArrayField(models.TextField(), null=True, help_text="What it counts against while it is leased.")
    limit_maxs = ArrayField(models.IntegerField(), null=True, help_text="For each key: how many leases at once.")
    parked_by = models.TextField(  # noqa: DJ001  (null means "by none"; "" would be a key)
        null=True,
        help_text="The key that was full when it was last looked at: nobody may lease it until there is room.",
    )
    attempts = models.IntegerField(db_default=0)
    max_attempts = models.IntegerField(db_default=5)
    lost_leases = models.IntegerField(db_default=0)
    tries = models.IntegerField(db_default=0)
    timeout_seconds = models.FloatField(null=True)
    available_at = models.DateTimeField(db_default=CLOCK)
    lease_token = models.UUIDField(null=True)
    worker_id = models.TextField(null=True)  # noqa: DJ001  (null means "nobody": rule R5 tells it from "")
    lease_until = models.DateTimeField(null=True)
    last_heartbeat = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    accepted_token = models.UUIDField(null=True, help_text="The lease whose result was accepted.")
    created_at = models.DateTimeField(db_default=CLOCK)
    updated_at = models.DateTimeField(db_default=CLOCK)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "queue"
        ordering: ClassVar = ["-priority", "round", "id"]
        permissions: ClassVar = [
            ("work_job", "Can lease jobs, and report the jobs it holds"),
            ("enqueue_job", "Can enqueue jobs by hand"),
            ("repair_job", "Can release leases and requeue dead jobs"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["execution_id", "node_id"], name="queue_one_job_per_node"),
            models.CheckConstraint(
                name="queue_leased_has_holder",
                condition=Q(
                    status="leased", lease_token__isnull=False, worker_id__isnull=False, lease_until__isnull=False
                )
                | (~Q(status="leased") & Q(lease_token__isnull=True, worker_id__isnull=True, lease_until__isnull=True)),
            ),
            models.CheckConstraint(
                name="queue_status_known",
                condition=Q(status__in=["queued", "leased", "done", "failed", "dead", "cancelled"]),
            ),
            models.CheckConstraint(
                name="queue_accepted_is_over",
                condition=Q(accepted_token__isnull=True) | Q(status__in=["done", "failed"]),
            ),
            models.CheckConstraint(
                name="queue_parked_waits",
                condition=Q(parked_by__isnull=True) | Q(status__in=["queued", "cancelled"], limit_keys__isnull=False),
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["pool", "-priority", "round", "id"], condition=READY, name="queue_ready"),
            models.Index(fields=["execution_id", "-priority", "round", "id"], condition=READY, name="queue_ready_of"),
            models.Index(F("limit_keys__0"), condition=COUNTED, name="queue_limited_first"),
            models.Index(F("limit_keys__1"), condition=COUNTED, name="queue_limited_second"),
            models.Index(
                fields=["parked_by", "pool", "-priority", "round", "id"],
                condition=Q(status="queued", held=False, parked_by__isnull=False),
                name="queue_parked",
            ),
            models.Index(fields=["lease_until"], condition=Q(status="leased"), name="queue_leased"),
        ]

    def __str__(self) -> str:
        return f"job at {self.node_id}"


class LeaseHistory(models.Model):
    """One lease of one job, from its beginning to its end; kept when the job's row moves on."""

    id = models.BigIntegerField(primary_key=True, db_default=NEXT_ID)
    job_id = models.BigIntegerField()
    execution_id = models.BigIntegerField()
    node_id = models.TextField()
    attempt = models.IntegerField(help_text="From 1.")
    worker_id = models.TextField()
    principal = models.TextField(db_default="", help_text="Who asked for it over the API; empty: the platform's own.")
    lease_token = models.UUIDField()
    leased_at = models.DateTimeField(db_default=CLOCK)
    ended_at = models.DateTimeField(null=True)
    ending = models.TextField(null=True)  # noqa: DJ001  (null while the lease is held)

    class Meta:
        db_table = "lease_history"
        ordering: ClassVar = ["-id"]
        verbose_name_plural = "lease history"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job_id", "attempt"], name="lease_history_one_per_attempt"),
            models.CheckConstraint(
                name="lease_history_ended_together",
                condition=Q(ended_at__isnull=True, ending__isnull=True)
                | Q(ended_at__isnull=False, ending__isnull=False),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["execution_id"], name="lease_history_execution")]

    def __str__(self) -> str:
        return f"lease {self.attempt} of the job at {self.node_id}"
