"""The tables of the queue."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [("noetl_site", "0001_foundation")]

    operations = [
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        db_default=models.Func(function="next_id", output_field=models.BigIntegerField()),
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("execution_id", models.BigIntegerField()),
                ("node_id", models.TextField()),
                ("node_name", models.TextField()),
                ("kind", models.TextField(help_text="Action kind.")),
                ("action", models.JSONField(help_text="The rendered action: kind, arguments, inputs.")),
                ("context", models.JSONField(default=dict)),
                ("uuid", models.UUIDField(help_text="The same for every attempt.")),
                (
                    "item_index",
                    models.IntegerField(help_text="Place of the item when the job is one of a loop.", null=True),
                ),
                (
                    "origin",
                    models.TextField(choices=[("engine", "Engine"), ("external", "External")], db_default="engine"),
                ),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("queued", "Queued"),
                            ("leased", "Leased"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                            ("dead", "Dead"),
                            ("cancelled", "Cancelled"),
                        ],
                        db_default="queued",
                    ),
                ),
                ("pool", models.TextField(db_default="default")),
                ("priority", models.IntegerField(db_default=0, help_text="Higher first.")),
                ("attempts", models.IntegerField(db_default=0)),
                ("max_attempts", models.IntegerField(db_default=5)),
                ("lost_leases", models.IntegerField(db_default=0)),
                ("tries", models.IntegerField(db_default=0)),
                ("timeout_seconds", models.FloatField(null=True)),
                (
                    "available_at",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
                ("lease_token", models.UUIDField(null=True)),
                ("worker_id", models.TextField(null=True)),
                ("lease_until", models.DateTimeField(null=True)),
                ("last_heartbeat", models.DateTimeField(null=True)),
                ("cancel_requested_at", models.DateTimeField(null=True)),
                ("accepted_token", models.UUIDField(help_text="The lease whose result was accepted.", null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "queue",
                "ordering": ["-priority", "id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "queued")), fields=["pool", "-priority", "id"], name="queue_ready"
                    ),
                    models.Index(condition=models.Q(("status", "leased")), fields=["lease_until"], name="queue_leased"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("execution_id", "node_id"), name="queue_one_job_per_node"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("lease_token__isnull", False),
                                ("lease_until__isnull", False),
                                ("status", "leased"),
                                ("worker_id__isnull", False),
                            ),
                            models.Q(
                                models.Q(("status", "leased"), _negated=True),
                                ("lease_token__isnull", True),
                                ("lease_until__isnull", True),
                                ("worker_id__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="queue_leased_has_holder",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["queued", "leased", "done", "failed", "dead", "cancelled"])),
                        name="queue_status_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("accepted_token__isnull", True), ("status__in", ["done", "failed"]), _connector="OR"
                        ),
                        name="queue_accepted_is_over",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LeaseHistory",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        db_default=models.Func(function="next_id", output_field=models.BigIntegerField()),
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("job_id", models.BigIntegerField()),
                ("execution_id", models.BigIntegerField()),
                ("node_id", models.TextField()),
                ("attempt", models.IntegerField(help_text="From 1.")),
                ("worker_id", models.TextField()),
                ("lease_token", models.UUIDField()),
                (
                    "leased_at",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
                ("ended_at", models.DateTimeField(null=True)),
                ("ending", models.TextField(null=True)),
            ],
            options={
                "verbose_name_plural": "lease history",
                "db_table": "lease_history",
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["execution_id"], name="lease_history_execution")],
                "constraints": [
                    models.UniqueConstraint(fields=("job_id", "attempt"), name="lease_history_one_per_attempt"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at__isnull", True), ("ending__isnull", True)),
                            models.Q(("ended_at__isnull", False), ("ending__isnull", False)),
                            _connector="OR",
                        ),
                        name="lease_history_ended_together",
                    ),
                ],
            },
        ),
        migrations.RunSQL(
            "ALTER TABLE queue SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);"
            "ALTER TABLE lease_history SET (fillfactor = 80)",
            migrations.RunSQL.noop,
        ),
    ]
