"""What an execution waits for is found without reading its log: signals and approvals stand in it alone."""

from django.db import migrations

WAITS = """
CREATE INDEX event_log_waits ON event_log (execution_id, node_id)
    WHERE event_type IN ('wait_started', 'undo_started', 'finally_started', 'notifying_started');
"""


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0006_late_timers"),
    ]

    operations = [
        migrations.RunSQL(WAITS, "DROP INDEX event_log_waits"),
    ]
