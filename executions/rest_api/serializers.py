"""The JSON of executions and events, in NoETL's shapes (docs/api.md)."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from executions.domain.events import normalised_status
from executions.domain.lines import LEVELS, STREAMS
from executions.domain.values import Unstorable, plain
from executions.models import ActionLog, EventLog, Execution

MAX_EVENTS: Final = 10_000
MAX_LARGE_EVENTS: Final = 100
MAX_LINES: Final = 10_000


class ExecutionsQuery(serializers.Serializer[Any]):
    """Which executions."""

    status = serializers.ChoiceField(choices=Execution.Status.values, required=False)
    path = serializers.CharField(required=False, help_text="Of one playbook.")


class EventsQuery(serializers.Serializer[Any]):
    """Which of an execution's events."""

    after = serializers.IntegerField(default=0, min_value=0, max_value=2**62, help_text="Only events after this seq.")
    limit = serializers.IntegerField(default=MAX_EVENTS, min_value=1, max_value=MAX_EVENTS)
    large = serializers.BooleanField(
        default=False, help_text="With large results in the place of their references; at most 100 events then."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Large results are given a few at a time."""
        return {**attrs, "limit": min(attrs["limit"], MAX_LARGE_EVENTS)} if attrs["large"] else attrs


class LogQuery(serializers.Serializer[Any]):
    """Which lines of an execution's log."""

    after = serializers.IntegerField(default=0, min_value=0, max_value=2**62, help_text="Only lines after this seq.")
    limit = serializers.IntegerField(default=MAX_LINES, min_value=1, max_value=MAX_LINES)
    step = serializers.CharField(required=False, help_text="Only of this step.")


class RunSerializer(serializers.Serializer[Any]):
    """What to start."""

    playbook_id = serializers.CharField(required=False, help_text="PATH or PATH:VERSION; `path` is the same.")
    path = serializers.CharField(required=False)
    version = serializers.CharField(required=False, allow_null=True, help_text="Absent or `latest`: the newest.")
    parameters = serializers.JSONField(required=False, help_text="Laid over the playbook's workload.")
    input_payload = serializers.JSONField(required=False, help_text="The same as `parameters`.")
    merge = serializers.BooleanField(
        required=False, default=False, help_text="Merge maps deeply instead of replacing keys."
    )

    priority = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=-100,
        max_value=100,
        help_text="Of jobs whose step has none; higher runs first. Absent: the playbook's, or 0.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One name for each thing."""
        named = [attrs[key] for key in ("playbook_id", "path") if attrs.get(key)]
        if len(named) != 1:
            raise serializers.ValidationError("give either playbook_id or path")
        if "parameters" in attrs and "input_payload" in attrs:
            raise serializers.ValidationError("give either parameters or input_payload")
        payload = attrs.get("parameters", attrs.get("input_payload"))
        return {
            "path": named[0],
            "version": attrs.get("version"),
            "payload": payload,
            "merge": attrs["merge"],
            "priority": attrs["priority"],
        }


class QueuedSerializer(serializers.Serializer[Any]):
    """What the original told of a start."""

    status = serializers.CharField()
    message = serializers.CharField()
    result = serializers.DictField()
    execution_id = serializers.CharField()
    export_path = serializers.CharField(allow_null=True)


class ExecutionSerializer(serializers.Serializer[Any]):
    """An execution, from an `ExecutionView`."""

    id = serializers.CharField()
    execution_id = serializers.CharField(source="id")
    playbook_id = serializers.CharField(source="path")
    playbook_name = serializers.CharField()
    version = serializers.CharField()
    status = serializers.CharField(help_text="pending, running, paused, completed, failed, cancelled.")
    start_time = serializers.DateTimeField(source="created_at")
    end_time = serializers.DateTimeField(source="ended_at", allow_null=True)
    duration = serializers.FloatField(source="duration_seconds", allow_null=True, help_text="Seconds.")
    parent_execution_id = serializers.CharField(allow_null=True, help_text="The execution that started it.")
    parent_node_id = serializers.CharField(allow_null=True, help_text="The node there that it is the work of.")
    children_count = serializers.IntegerField(help_text="How many executions it has started itself.")
    rerun_of = serializers.CharField(allow_null=True, help_text="The execution that it repeats.")
    priority = serializers.IntegerField(help_text="Of its jobs whose step has none; higher runs first.")
    progress = serializers.IntegerField(help_text="Percent of the playbook's steps that have ended.")
    result = serializers.JSONField(allow_null=True)
    error = serializers.JSONField(allow_null=True, help_text="Root cause: code, message, step, node_id.")


class StartedSerializer(ExecutionSerializer):
    """A started execution; `result` is what the original answered with, not the execution's result."""

    result = QueuedSerializer()


class CancelSerializer(serializers.Serializer[Any]):
    """Why it is cancelled."""

    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=1000)


class CancelledSerializer(serializers.Serializer[Any]):
    """What came of a cancel."""

    status = serializers.CharField(help_text="The execution's status now.")
    execution_id = serializers.CharField()
    cancelled = serializers.BooleanField(help_text="False: it had ended already.")


class PausedSerializer(serializers.Serializer[Any]):
    """What came of pausing or resuming."""

    status = serializers.CharField(help_text="The execution's status now.")
    execution_id = serializers.CharField()


def _storable(value: Any) -> Any:
    try:
        return plain(value)
    except Unstorable as problem:
        raise serializers.ValidationError(str(problem)) from None


class SignalSerializer(serializers.Serializer[Any]):
    """What a signal carries."""

    data = serializers.JSONField(required=False, default=None, allow_null=True, help_text="The wait's result.")

    def validate_data(self, value: Any) -> Any:
        """What the log can hold."""
        return _storable(value)


class ApprovalSerializer(serializers.Serializer[Any]):
    """The answer to an approval."""

    approved = serializers.BooleanField()
    answer = serializers.JSONField(required=False, default=dict, help_text="The form's fields and their values.")

    def validate_answer(self, value: Any) -> Any:
        """What the log can hold."""
        return _storable(value)


class RerunSerializer(serializers.Serializer[Any]):
    """What of an execution is run again."""

    from_step = serializers.CharField(
        required=False, allow_null=True, default=None, help_text="This step and all after it run in any case."
    )
    failed_only = serializers.BooleanField(
        required=False, default=False, help_text="What succeeded and is asked for in the same way is taken over."
    )
    payload = serializers.JSONField(required=False, default=dict, help_text="Laid over the workload of before.")
    merge = serializers.BooleanField(required=False, default=False)


class EventSerializer(serializers.Serializer[EventLog]):
    """One event. `input_context` and `output_result` repeat `context` and `result` for older clients."""

    event_id = serializers.CharField()
    posted_id = serializers.CharField(allow_null=True, help_text="The id it was posted under, if it was.")
    execution_id = serializers.CharField()
    seq = serializers.IntegerField(help_text="Dense per execution, from 1.")
    event_type = serializers.SerializerMethodField()
    origin = serializers.SerializerMethodField()
    node_id = serializers.CharField()
    node_name = serializers.CharField()
    node_type = serializers.CharField()
    status = serializers.CharField()
    normalized_status = serializers.SerializerMethodField()
    duration = serializers.FloatField(help_text="Seconds.")
    timestamp = serializers.DateTimeField()
    context = serializers.JSONField(allow_null=True)
    input_context = serializers.JSONField(source="context", allow_null=True)
    result = serializers.JSONField(allow_null=True)
    output_result = serializers.JSONField(source="result", allow_null=True)
    result_ref = serializers.CharField(
        allow_null=True, help_text="SHA-256 of a large result: `result` is `{$ref: {sha256, bytes}}` unless asked for."
    )
    metadata = serializers.JSONField(source="meta", allow_null=True)
    error = serializers.JSONField(allow_null=True)
    stack_trace = serializers.CharField(allow_null=True)
    loop_name = serializers.CharField(allow_null=True)
    current_index = serializers.IntegerField(allow_null=True)
    worker_id = serializers.CharField(allow_null=True)
    resource_path = serializers.SerializerMethodField()
    resource_version = serializers.SerializerMethodField()

    def get_event_type(self, event: EventLog) -> str:
        """The type; of an annotation the one it was posted with."""
        return str((event.meta or {}).get("posted_type") or event.event_type)

    @extend_schema_field(serializers.ChoiceField(["engine", "posted"]))
    def get_origin(self, event: EventLog) -> str:
        """Whether the platform wrote it, or somebody posted it as an annotation."""
        return "posted" if (event.meta or {}).get("posted_type") else "engine"

    def get_normalized_status(self, event: EventLog) -> str:
        """pending, running, completed or failed."""
        return normalised_status(event.status)

    def _execution(self) -> Any:
        """The view of the execution that all the events are of; here `context` is DRF's."""
        given: Any = self.context
        return given["execution"]

    def get_resource_path(self, event: EventLog) -> str:
        """The playbook's path."""
        return str(self._execution().path)

    def get_resource_version(self, event: EventLog) -> str:
        """The playbook's version."""
        return str(self._execution().version)


class ExecutionWithEventsSerializer(ExecutionSerializer):
    """An execution with its events, oldest first."""

    events = EventSerializer(many=True)


class EventsSerializer(serializers.Serializer[Any]):
    """Events, oldest first."""

    events = EventSerializer(many=True)


class LogLineSerializer(serializers.Serializer[ActionLog]):
    """One line of what an action printed or logged."""

    seq = serializers.IntegerField(help_text="Dense per execution, from 1.")
    timestamp = serializers.DateTimeField(source="at", help_text="By the worker's clock.")
    node_id = serializers.CharField()
    step = serializers.CharField()
    attempt = serializers.IntegerField()
    index = serializers.IntegerField(source="item_index", allow_null=True, help_text="The item's place in its loop.")
    stream = serializers.ChoiceField(STREAMS, help_text="`platform`: what it has to say of the job's log.")
    level = serializers.ChoiceField(LEVELS)
    text = serializers.CharField(help_text="Without its end of line; secrets are `***`.")


class LogSerializer(serializers.Serializer[Any]):
    """Lines of an execution's log, oldest first."""

    lines = LogLineSerializer(many=True)
    dropped = serializers.IntegerField(help_text="Lines that came when the execution's log was full.")
