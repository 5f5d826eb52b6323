"""The table of playbook versions, whose rows cannot be changed."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

IMMUTABLE = """
CREATE FUNCTION noetl.catalog_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'playbook version %:% is immutable: register a new one', OLD.path, OLD.version
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER catalog_immutable BEFORE UPDATE OF id, path, version, content, payload, content_hash
    ON noetl.catalog FOR EACH ROW EXECUTE FUNCTION noetl.catalog_refuse_change();
"""


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = [("noetl_site", "0001_foundation")]
    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="PlaybookVersion",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        db_default=models.Func(function="next_id", output_field=models.BigIntegerField()),
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("path", models.TextField(help_text="Place in the catalog, as team/daily/report.")),
                ("version", models.TextField(help_text="0.1.0, then one patch more each time.")),
                ("content", models.TextField(help_text="The YAML as it was given.")),
                ("payload", models.JSONField(help_text="The normalised playbook, which executions run.")),
                ("content_hash", models.TextField(help_text="SHA-256 of the content.")),
                ("warnings", models.JSONField(default=list, help_text="What registration warned of.")),
                ("meta", models.JSONField(default=dict)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=models.Func(function="clock_now", output_field=models.DateTimeField())
                    ),
                ),
                ("created_by", models.TextField(db_default="", help_text="Who registered it.")),
            ],
            options={
                "db_table": "catalog",
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(fields=("path", "version"), name="catalog_one_row_per_version")
                ],
            },
        ),
        migrations.RunSQL(
            IMMUTABLE,
            "DROP TRIGGER catalog_immutable ON noetl.catalog; DROP FUNCTION noetl.catalog_refuse_change()",
        ),
    ]
