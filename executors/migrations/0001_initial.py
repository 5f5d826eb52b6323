"""The tables of the worker's side."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [("noetl_site", "0001_foundation")]

    operations = [
        migrations.CreateModel(
            name="Credential",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        db_default=models.Func(function="next_id", output_field=models.BigIntegerField()),
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.TextField(unique=True)),
                ("type", models.TextField(db_default="generic")),
                ("data_encrypted", models.TextField()),
                ("meta", models.JSONField(default=dict)),
                ("tags", models.JSONField(default=list)),
                ("description", models.TextField(db_default="")),
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
            ],
            options={
                "db_table": "credential",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Runtime",
            fields=[
                (
                    "runtime_id",
                    models.BigIntegerField(
                        db_default=models.Func(function="next_id", output_field=models.BigIntegerField()),
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.TextField()),
                (
                    "component_type",
                    models.TextField(
                        choices=[("worker_pool", "Worker Pool"), ("server_api", "Server Api"), ("broker", "Broker")]
                    ),
                ),
                ("base_url", models.TextField(db_default="")),
                ("status", models.TextField(choices=[("ready", "Ready"), ("offline", "Offline")], db_default="ready")),
                ("labels", models.JSONField(default=dict)),
                ("capabilities", models.JSONField(default=dict)),
                ("capacity", models.IntegerField(null=True)),
                (
                    "runtime",
                    models.JSONField(default=dict, help_text="type, pid, hostname and what else it tells of itself."),
                ),
                (
                    "last_heartbeat",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
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
            ],
            options={
                "db_table": "runtime",
                "ordering": ["component_type", "name"],
                "constraints": [
                    models.UniqueConstraint(fields=("component_type", "name"), name="runtime_one_per_name"),
                    models.CheckConstraint(
                        condition=models.Q(("component_type__in", ["worker_pool", "server_api", "broker"])),
                        name="runtime_component_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["ready", "offline"])), name="runtime_status_known"
                    ),
                ],
            },
        ),
    ]
