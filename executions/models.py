"""The tables of executions and their event log."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Func, Q

CLOCK = Func(function="clock_now", output_field=models.DateTimeField())
"""The database's clock as a column default (rule R4)."""

NEXT_ID = Func(function="next_id", output_field=models.BigIntegerField())


class Execution(models.Model):
    """One execution of one playbook version, which it keeps for ever.

    The event log is its truth; `state`, `status`, `result` and `error` are folds of it, kept for speed. The row is
    the lock under which its log grows.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        PAUSED = "paused"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.BigIntegerField(primary_key=True, db_default=NEXT_ID)
    playbook_version_id = models.BigIntegerField(help_text="The row of the catalog it runs.")
    path = models.TextField()
    version = models.TextField()
    status = models.TextField(choices=Status.choices, db_default=Status.PENDING)
    workload = models.JSONField(help_text="The playbook's workload, rendered, with the payload laid over it.")
    state = models.JSONField(null=True, help_text="The planner's state; null: rebuild it from the log.")
    last_seq = models.BigIntegerField(db_default=0, help_text="seq of the newest event.")
    result = models.JSONField(null=True)
    result_ref = models.TextField(  # noqa: DJ001  (null: `result` is the result itself)
        null=True, help_text="Where a large result is: the key of its row in large_result."
    )
    error = models.JSONField(null=True, help_text="Root cause: code, message, step, node_id.")
    parent_execution_id = models.BigIntegerField(null=True)
    parent_node_id = models.TextField(null=True)  # noqa: DJ001  (null: it has no parent)
    parent_waits = models.BooleanField(db_default=False, help_text="Its parent is still to be told how it ended.")
    depth = models.IntegerField(db_default=0, help_text="How many executions it is below the one that was started.")
    rerun_of = models.BigIntegerField(null=True, help_text="The execution that it repeats.")
    cancel_reason = models.TextField(  # noqa: DJ001  (null: not asked, or done)
        null=True, help_text="Asked to cancel by what happened to its parent, and not done yet."
    )
    idempotency_key = models.TextField(null=True)  # noqa: DJ001  (null: none was given)
    request_hash = models.TextField(db_default="", help_text="Hash of the start's request, for its key.")
    needs_evaluation_since = models.DateTimeField(null=True)
    evaluation_failures = models.IntegerField(db_default=0)
    evaluation_error = models.TextField(db_default="")
    created_by = models.TextField(db_default="")
    meta = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=CLOCK)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(db_default=CLOCK)
    priority = models.IntegerField(db_default=0, help_text="Of jobs whose step has none; higher runs first.")

    class Meta:
        db_table = "execution"
        ordering: ClassVar = ["-id"]
        permissions: ClassVar = [
            ("start_execution", "Can start executions"),
            ("cancel_execution", "Can cancel executions"),
            ("control_execution", "Can pause, resume, signal and approve executions"),
            ("render_template", "Can render templates against an execution"),
            ("post_event", "Can annotate executions with events"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["idempotency_key"], name="execution_one_per_key"),
            models.UniqueConstraint(
                fields=["parent_execution_id", "parent_node_id"], name="execution_one_child_per_node"
            ),
            models.CheckConstraint(
                name="execution_ended_has_time",
                condition=Q(status__in=["completed", "failed", "cancelled"], ended_at__isnull=False)
                | (~Q(status__in=["completed", "failed", "cancelled"]) & Q(ended_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="execution_status_known",
                condition=Q(status__in=["pending", "running", "paused", "completed", "failed", "cancelled"]),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["needs_evaluation_since"],
                condition=Q(needs_evaluation_since__isnull=False),
                name="execution_to_evaluate",
            ),
            models.Index(
                fields=["id"], condition=Q(status__in=["pending", "running", "paused"]), name="execution_open"
            ),
            models.Index(fields=["path", "-id"], name="execution_path"),
            models.Index(
                fields=["parent_execution_id"],
                condition=Q(parent_waits=True, status__in=["completed", "failed", "cancelled"]),
                name="execution_untold",
            ),
            models.Index(fields=["rerun_of"], condition=Q(rerun_of__isnull=False), name="execution_reruns"),
        ]

    def __str__(self) -> str:
        return f"execution {self.id} of {self.path}"


class EventLog(models.Model):
    """One event of one execution: appended under the execution's lock, never changed, never deleted by the application.

    The table is partitioned by `execution_id`; its keys are (execution_id, seq) and partial unique keys on outcomes
    and terminal events (migration 0001). `event_id` alone is the model's key, as the admin wants one column.
    """

    event_id = models.BigIntegerField(primary_key=True, db_default=NEXT_ID)
    execution_id = models.BigIntegerField()
    seq = models.BigIntegerField(help_text="Dense per execution, from 1.")
    format = models.SmallIntegerField(db_default=1)
    parent_event_id = models.BigIntegerField(null=True)
    parent_execution_id = models.BigIntegerField(null=True)
    timestamp = models.DateTimeField(db_default=CLOCK)
    event_type = models.TextField()
    node_id = models.TextField()
    node_name = models.TextField()
    node_type = models.TextField()
    status = models.TextField(db_default="")
    duration = models.FloatField(db_default=0.0, help_text="Seconds.")
    context = models.JSONField(null=True)
    result = models.JSONField(null=True)
    result_ref = models.TextField(  # noqa: DJ001  (null: `result` is the result itself)
        null=True, help_text="Where a large result is: the key of its row in large_result."
    )
    meta = models.JSONField(null=True)
    error = models.JSONField(null=True)
    stack_trace = models.TextField(null=True)  # noqa: DJ001  (null: there is none)
    loop_name = models.TextField(null=True)  # noqa: DJ001  (null: no part of a loop)
    current_index = models.IntegerField(null=True)
    current_item = models.JSONField(null=True)
    worker_id = models.TextField(null=True)  # noqa: DJ001  (null: not a worker's event)
    posted_id = models.TextField(  # noqa: DJ001  (null: it was not posted, or without an id)
        null=True, help_text="The id that whoever posted it gave it; one of a kind in its execution."
    )

    class Meta:
        db_table = "event_log"
        ordering: ClassVar = ["execution_id", "seq"]
        verbose_name = "event"

    def __str__(self) -> str:
        return f"event {self.seq} of execution {self.execution_id}"


class StoredFrame(models.Model):
    """One running item of a loop over several steps: where the steps of its body stand.

    A part of the execution's state, kept apart so that one event reads and writes the frames on its way and no others.
    Written under the execution's lock, with its `state`.
    """

    pk = models.CompositePrimaryKey("execution_id", "key")
    execution_id = models.BigIntegerField()
    key = models.TextField(db_collation="C", help_text="Place of the loop's step, index of the item, ...: 3.0.5.1")
    data = models.JSONField()

    class Meta:
        db_table = "frame"

    def __str__(self) -> str:
        return f"frame {self.key} of execution {self.execution_id}"


class Timer(models.Model):
    """One time at which one execution is to be told that it has come. Gone when it has fired or is called off."""

    pk = models.CompositePrimaryKey("execution_id", "node_id", "kind")
    execution_id = models.BigIntegerField()
    node_id = models.TextField(help_text="A step's node, or the execution's id for its own timeout.")
    kind = models.TextField(help_text="wait, timeout or late.")
    due_at = models.DateTimeField()

    class Meta:
        db_table = "timer"
        indexes: ClassVar = [models.Index(fields=["due_at"], name="timer_due")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.node_id}"


class LargeResult(models.Model):
    """One result that is too large for its row in the event log, which refers to it. Never changed."""

    pk = models.CompositePrimaryKey("execution_id", "key")
    execution_id = models.BigIntegerField()
    key = models.TextField(help_text="SHA-256 of its JSON text, in hexadecimal.")
    data = models.JSONField()
    bytes = models.BigIntegerField()

    class Meta:
        db_table = "large_result"

    def __str__(self) -> str:
        return f"result of {self.bytes} bytes of execution {self.execution_id}"


class ActionLog(models.Model):
    """One line of what an action of one execution printed or logged. Appended, never changed; gone with the execution.

    Nothing is planned with it and no fold reads it.
    """

    pk = models.CompositePrimaryKey("execution_id", "seq")
    execution_id = models.BigIntegerField()
    seq = models.BigIntegerField(help_text="Dense per execution, from 1, in the order in which the lines came in.")
    at = models.DateTimeField(help_text="When it was printed, by the worker's clock.")
    node_id = models.TextField()
    step = models.TextField()
    attempt = models.IntegerField(help_text="From 1.")
    item_index = models.IntegerField(null=True, help_text="Place of the item when the job is one of a loop.")
    stream = models.TextField(help_text="printed, logged, or platform: what the platform says of the job's log.")
    level = models.TextField(help_text="debug, info, warning, error, critical.")
    text = models.TextField()

    class Meta:
        db_table = "action_log"
        verbose_name = "line of an action's log"
        verbose_name_plural = "lines of actions' logs"
        indexes: ClassVar = [models.Index(fields=["execution_id", "step", "seq"], name="action_log_step")]

    def __str__(self) -> str:
        return f"line {self.seq} of execution {self.execution_id}"


class ActionLogTotal(models.Model):
    """How much one execution has logged. Its row is the lock under which its lines are numbered."""

    execution_id = models.BigIntegerField(primary_key=True)
    lines = models.BigIntegerField(help_text="That are kept: the seq of the newest.")
    bytes = models.BigIntegerField(help_text="Of all that came, kept or not.")
    dropped = models.BigIntegerField(db_default=0, help_text="Lines that came when the log was full.")

    class Meta:
        db_table = "action_log_total"
        default_permissions: ClassVar = ()

    def __str__(self) -> str:
        return f"log of execution {self.execution_id}"
