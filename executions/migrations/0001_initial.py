"""The tables of executions; the event log is written by hand, as Django knows no partitions."""

from pathlib import Path

from django.db import migrations, models

EVENT_LOG = (Path(__file__).parent.parent / "sql" / "event_log.sql").read_text()


class Migration(migrations.Migration):
    initial = True

    dependencies = [("noetl_site", "0001_foundation")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(EVENT_LOG, "DROP TABLE event_log; DROP FUNCTION refuse_change()")],
            state_operations=[
                migrations.CreateModel(
                    name="EventLog",
                    fields=[
                        (
                            "event_id",
                            models.BigIntegerField(
                                db_default=models.Func(function="next_id", output_field=models.BigIntegerField()),
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("execution_id", models.BigIntegerField()),
                        ("seq", models.BigIntegerField(help_text="Dense per execution, from 1.")),
                        ("format", models.SmallIntegerField(db_default=1)),
                        ("parent_event_id", models.BigIntegerField(null=True)),
                        ("parent_execution_id", models.BigIntegerField(null=True)),
                        (
                            "timestamp",
                            models.DateTimeField(
                                db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                            ),
                        ),
                        ("event_type", models.TextField()),
                        ("node_id", models.TextField()),
                        ("node_name", models.TextField()),
                        ("node_type", models.TextField()),
                        ("status", models.TextField(db_default="")),
                        ("duration", models.FloatField(db_default=0.0, help_text="Seconds.")),
                        ("context", models.JSONField(null=True)),
                        ("result", models.JSONField(null=True)),
                        ("meta", models.JSONField(null=True)),
                        ("error", models.JSONField(null=True)),
                        ("stack_trace", models.TextField(null=True)),
                        ("loop_name", models.TextField(null=True)),
                        ("current_index", models.IntegerField(null=True)),
                        ("current_item", models.JSONField(null=True)),
                        ("worker_id", models.TextField(null=True)),
                    ],
                    options={
                        "verbose_name": "event",
                        "db_table": "event_log",
                        "ordering": ["execution_id", "seq"],
                    },
                ),
            ],
        ),
        migrations.CreateModel(
            name="Execution",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        db_default=models.Func(function="next_id", output_field=models.BigIntegerField()),
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("playbook_version_id", models.BigIntegerField(help_text="The row of the catalog it runs.")),
                ("path", models.TextField()),
                ("version", models.TextField()),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("pending", "Pending"),
                            ("running", "Running"),
                            ("paused", "Paused"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        db_default="pending",
                    ),
                ),
                (
                    "workload",
                    models.JSONField(help_text="The playbook's workload, rendered, with the payload laid over it."),
                ),
                ("state", models.JSONField(help_text="The planner's state; null: rebuild it from the log.", null=True)),
                ("last_seq", models.BigIntegerField(db_default=0, help_text="seq of the newest event.")),
                ("result", models.JSONField(null=True)),
                ("error", models.JSONField(help_text="Root cause: code, message, step, node_id.", null=True)),
                ("parent_execution_id", models.BigIntegerField(null=True)),
                ("parent_node_id", models.TextField(null=True)),
                ("idempotency_key", models.TextField(null=True)),
                (
                    "request_hash",
                    models.TextField(db_default="", help_text="Hash of the start's request, for its key."),
                ),
                ("needs_evaluation_since", models.DateTimeField(null=True)),
                ("evaluation_failures", models.IntegerField(db_default=0)),
                ("evaluation_error", models.TextField(db_default="")),
                ("created_by", models.TextField(db_default="")),
                ("meta", models.JSONField(default=dict)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
                ("started_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
            ],
            options={
                "db_table": "execution",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("needs_evaluation_since__isnull", False)),
                        fields=["needs_evaluation_since"],
                        name="execution_to_evaluate",
                    ),
                    models.Index(
                        condition=models.Q(("status__in", ["pending", "running", "paused"])),
                        fields=["id"],
                        name="execution_open",
                    ),
                    models.Index(fields=["path", "-id"], name="execution_path"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("idempotency_key",), name="execution_one_per_key"),
                    models.UniqueConstraint(
                        fields=("parent_execution_id", "parent_node_id"), name="execution_one_child_per_node"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at__isnull", False), ("status__in", ["completed", "failed", "cancelled"])),
                            models.Q(
                                models.Q(("status__in", ["completed", "failed", "cancelled"]), _negated=True),
                                ("ended_at__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="execution_ended_has_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("status__in", ["pending", "running", "paused", "completed", "failed", "cancelled"])
                        ),
                        name="execution_status_known",
                    ),
                ],
            },
        ),
        migrations.RunSQL("ALTER TABLE execution SET (fillfactor = 60)", migrations.RunSQL.noop),
    ]
