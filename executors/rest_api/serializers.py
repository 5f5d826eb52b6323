"""The JSON of the worker protocol, in NoETL's shapes (docs/api.md)."""

from __future__ import annotations

import json
from typing import Any, Final

from django.conf import settings
from rest_framework import serializers

from executions.api import LEVELS, STREAMS, LogLine
from executors.models import Runtime
from executors.rest_api.fields import IdField, ResultField, StorableField, StorableMapField, storable
from executors.sandbox.results import plain
from executors.worker.wire import ActionUnreadable, read_action, tell_action
from queueing.api import JOB_STATUSES

MAX_LEASE_SECONDS: Final = 86_400.0
MAX_DELAY_SECONDS: Final = 86_400.0
MAX_LISTED: Final = 1000
MAX_LINE_CHARS: Final = 1 << 20
RUNTIMES: Final = ("cpu", "gpu", "qpu")


class JobsQuery(serializers.Serializer[Any]):
    """Which jobs, and how many."""

    status = serializers.ChoiceField(choices=JOB_STATUSES, required=False)
    execution_id = IdField(required=False)
    worker_id = serializers.CharField(required=False)
    limit = serializers.IntegerField(default=100, min_value=1, max_value=MAX_LISTED)


class SizeQuery(serializers.Serializer[Any]):
    """Which jobs."""

    status = serializers.ChoiceField(choices=JOB_STATUSES, default="queued")


class RuntimesQuery(serializers.Serializer[Any]):
    """Which components."""

    runtime = serializers.CharField(required=False)
    status = serializers.ChoiceField(choices=Runtime.Status.values, required=False)


class LeaseSerializer(serializers.Serializer[Any]):
    """Who asks for a job, for how long, and of which pools."""

    worker_id = serializers.CharField(max_length=200)
    lease_seconds = serializers.FloatField(default=60.0, min_value=1, max_value=MAX_LEASE_SECONDS)
    pools = serializers.ListField(
        child=serializers.CharField(max_length=100), required=False, allow_empty=False, max_length=20,
        help_text="Absent: the default pool.",
    )  # fmt: skip


class ClaimSerializer(serializers.Serializer[Any]):
    """Who says that they hold the job. Give the lease's token: without it a job leased twice is nobody's."""

    worker_id = serializers.CharField(required=False, allow_null=True, max_length=200)
    lease_token = serializers.UUIDField(required=False, allow_null=True)


class HeartbeatSerializer(ClaimSerializer):
    """How long the lease shall last from now."""

    extend_seconds = serializers.FloatField(
        required=False, min_value=1, max_value=MAX_LEASE_SECONDS, help_text="Absent: the server's lease time."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The server's own time when none is given: a heartbeat that extends nothing would keep nothing."""
        attrs.setdefault("extend_seconds", settings.NOETL_LEASE_SECONDS)
        return attrs


class LogLineField(serializers.Serializer[Any]):
    """One line of what an action printed or logged."""

    timestamp = serializers.DateTimeField(help_text="By the worker's clock.")
    stream = serializers.ChoiceField(STREAMS, default="logged")
    level = serializers.ChoiceField(LEVELS, default="info")
    text = serializers.CharField(allow_blank=True, trim_whitespace=False, max_length=MAX_LINE_CHARS)

    def to_internal_value(self, data: Any) -> Any:
        """The line as it is stored; what Postgres cannot hold is replaced, as in a failure's text."""
        if isinstance(data, dict) and isinstance(data.get("text"), str):
            data = {**data, "text": plain(data["text"])}
        given = super().to_internal_value(data)
        return LogLine(given["timestamp"].isoformat(), given["stream"], given["level"], given["text"])


class AppendLogSerializer(ClaimSerializer):
    """What a running action has logged since the last time."""

    log = LogLineField(many=True, help_text="In the order of the lines; without secrets.")


class CompleteSerializer(ClaimSerializer):
    """The result; `duration` in seconds."""

    result = ResultField(required=False, allow_null=True, default=None)
    duration = serializers.FloatField(required=False, default=0.0, min_value=0)
    log = LogLineField(many=True, required=False, default=list, help_text="What the action has logged and nobody sent.")


class FailSerializer(CompleteSerializer):
    """The failure. Retries are for jobs enqueued by hand; a playbook's steps say themselves how often they try."""

    error = ResultField(
        required=False, allow_null=True, default=None, help_text="Text, or {code, message, retry_after_seconds}."
    )
    traceback = ResultField(required=False, allow_null=True, default=None, help_text="Text.")
    retry = serializers.BooleanField(default=True)
    retry_delay_seconds = serializers.FloatField(default=60.0, min_value=0, max_value=MAX_DELAY_SECONDS)


class EnqueueSerializer(serializers.Serializer[Any]):
    """A job by hand."""

    execution_id = IdField()
    node_id = serializers.CharField(max_length=500)
    node_name = serializers.CharField(required=False, max_length=200, help_text="Absent: the node id.")
    action = ResultField(help_text="The task's configuration: a map with `type`, or JSON text of one.")
    context = StorableMapField(required=False)
    input_context = StorableMapField(required=False, help_text="The same as `context`.")
    priority = serializers.IntegerField(default=0, min_value=-(2**31), max_value=2**31 - 1)
    max_attempts = serializers.IntegerField(default=5, min_value=1, max_value=1000)
    available_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    pool = serializers.CharField(required=False, max_length=100)

    def validate_action(self, value: Any) -> Any:
        """The stored form."""
        try:
            return storable(read_action(value))
        except ActionUnreadable as error:
            raise serializers.ValidationError(str(error)) from None


class JobSerializer(serializers.Serializer[Any]):
    """A job, with all columns of the original's queue and some of ours; never its tokens."""

    id = serializers.CharField()
    execution_id = serializers.CharField()
    node_id = serializers.CharField()
    node_name = serializers.CharField()
    kind = serializers.CharField()
    action = serializers.SerializerMethodField(help_text="JSON text of the task's configuration.")
    context = serializers.JSONField()
    uuid = serializers.CharField()
    item_index = serializers.IntegerField(allow_null=True)
    origin = serializers.CharField()
    status = serializers.CharField()
    pool = serializers.CharField()
    priority = serializers.IntegerField()
    limit_keys = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="What it counts against while it is leased."
    )
    parked_by = serializers.CharField(allow_null=True, help_text="The key of these that it waits for to have room.")
    attempts = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    lost_leases = serializers.IntegerField()
    timeout_seconds = serializers.FloatField(allow_null=True)
    available_at = serializers.DateTimeField()
    lease_until = serializers.DateTimeField(allow_null=True)
    worker_id = serializers.CharField(allow_null=True)
    last_heartbeat = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_action(self, job: Any) -> str:
        """As the original keeps it."""
        return json.dumps(tell_action(job.action))


class LeasedJobSerializer(JobSerializer):
    """A job for whoever leased it: with the token that every later word about it must show."""

    lease_token = serializers.CharField()


class PostedEventSerializer(serializers.Serializer[Any]):
    """An event to post. Of `context`/`input_context`, `result`/`output_result`, `meta`/`metadata` give either."""

    execution_id = IdField()
    event_id = serializers.CharField(
        required=False, allow_null=True, default=None, max_length=100, help_text="The id it is posted under."
    )
    event_type = serializers.CharField(default="UNKNOWN", max_length=100)
    status = serializers.CharField(default="CREATED", max_length=100, allow_blank=True)
    node_id = serializers.CharField(required=False, max_length=700)
    node_name = serializers.CharField(required=False, max_length=200)
    node_type = serializers.CharField(default="event", max_length=100)
    duration = serializers.FloatField(default=0.0, min_value=0)
    context = StorableField(required=False, allow_null=True)
    input_context = StorableField(required=False, allow_null=True)
    result = ResultField(required=False, allow_null=True)
    output_result = ResultField(required=False, allow_null=True)
    meta = StorableField(required=False, allow_null=True)
    metadata = StorableField(required=False, allow_null=True)
    error = ResultField(required=False, allow_null=True, default=None)
    traceback = ResultField(required=False, allow_null=True, default=None)
    loop_name = serializers.CharField(required=False, allow_null=True, default=None, max_length=200)
    current_index = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=2**31 - 1
    )
    current_item = StorableField(required=False, allow_null=True, default=None)
    worker_id = serializers.CharField(required=False, allow_null=True, default=None, max_length=200)
    lease_token = serializers.UUIDField(required=False, allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One name for each thing; the original's defaults for what is not told."""
        for name, other in (("context", "input_context"), ("result", "output_result"), ("meta", "metadata")):
            value = attrs.pop(other, None)
            if attrs.get(name) is None:
                attrs[name] = value
        if attrs["meta"] is not None and not isinstance(attrs["meta"], dict):
            attrs["meta"] = {"meta": attrs["meta"]}
        attrs.setdefault("node_id", str(attrs["event_id"] or attrs["execution_id"]))
        attrs.setdefault("node_name", attrs["event_type"])
        return attrs


class RenderSerializer(serializers.Serializer[Any]):
    """What to render. Of a map with `work` or `task` only those are rendered; anything else is rendered whole."""

    execution_id = IdField()
    template = StorableField()
    extra_context = StorableMapField(required=False, default=dict)
    strict = serializers.BooleanField(default=False, help_text="False: what fails is left as it is.")


class RenderedSerializer(serializers.Serializer[Any]):
    """The template, rendered."""

    status = serializers.CharField()
    rendered = serializers.JSONField()
    context_keys = serializers.ListField(child=serializers.CharField())
    errors = serializers.DictField(child=serializers.CharField(), help_text="Why a part was left as it is.")


class OkSerializer(serializers.Serializer[Any]):
    """Done."""

    status = serializers.CharField()
    id = serializers.CharField()


class JudgedSerializer(OkSerializer):
    """Done; `judgement` is accepted, already_accepted (the same holder's repetition) or queued (a retry)."""

    judgement = serializers.CharField()


class HeldSerializer(OkSerializer):
    """The lease lasts on; with `cancel_requested` stop the action and release the job."""

    lease_until = serializers.DateTimeField()
    cancel_requested = serializers.BooleanField()


class EnqueuedSerializer(serializers.Serializer[Any]):
    """`id` is null when the node has a job already."""

    status = serializers.CharField()
    id = serializers.CharField(allow_null=True)


class LeaseReplySerializer(serializers.Serializer[Any]):
    """`status` is ok or empty."""

    status = serializers.CharField()
    job = LeasedJobSerializer(required=False)


class JobsSerializer(serializers.Serializer[Any]):
    """Jobs, in the order in which they are leased."""

    status = serializers.CharField()
    items = JobSerializer(many=True)


class CountSerializer(serializers.Serializer[Any]):
    """How many."""

    status = serializers.CharField()
    count = serializers.IntegerField()


class ReclaimedSerializer(serializers.Serializer[Any]):
    """How many leases were taken back."""

    reclaimed = serializers.IntegerField()


class SecretsSerializer(serializers.Serializer[Any]):
    """The credentials that the leased job's action names."""

    credentials = serializers.DictField(child=serializers.DictField())


class ComponentSerializer(serializers.Serializer[Any]):
    """What a component tells of itself."""

    name = serializers.CharField(max_length=200)
    component_type = serializers.ChoiceField(
        choices=Runtime.ComponentType.values, default=Runtime.ComponentType.SERVER_API
    )
    base_url = serializers.CharField(max_length=1000)
    runtime = serializers.CharField(required=False, allow_null=True, allow_blank=True, default=None, max_length=50)
    status = serializers.ChoiceField(choices=Runtime.Status.values, default=Runtime.Status.READY)
    capacity = serializers.IntegerField(required=False, allow_null=True, default=None, min_value=0, max_value=2**31 - 1)
    labels = StorableField(required=False, allow_null=True, default=None)
    pid = serializers.IntegerField(required=False, allow_null=True)
    hostname = serializers.CharField(required=False, allow_null=True, max_length=300)
    meta = StorableMapField(required=False, default=dict)


class PoolSerializer(ComponentSerializer):
    """What a worker pool tells of itself."""

    component_type = serializers.HiddenField(default=Runtime.ComponentType.WORKER_POOL)
    runtime = serializers.ChoiceField(choices=RUNTIMES)


class NameSerializer(serializers.Serializer[Any]):
    """Which component."""

    name = serializers.CharField(max_length=200)
    component_type = serializers.ChoiceField(
        choices=Runtime.ComponentType.values, default=Runtime.ComponentType.SERVER_API
    )


class PoolNameSerializer(NameSerializer):
    """Which worker pool."""

    component_type = serializers.HiddenField(default=Runtime.ComponentType.WORKER_POOL)


class PoolHeartbeatSerializer(PoolNameSerializer):
    """Which worker pool; absent: the server's own `NOETL_WORKER_POOL_NAME`."""

    name = serializers.CharField(required=False, allow_null=True, max_length=200)


class RegisteredPoolSerializer(serializers.Serializer[Any]):
    """The pool is known."""

    status = serializers.CharField()
    name = serializers.CharField()
    runtime = serializers.CharField()
    runtime_id = serializers.CharField()


class RegisteredComponentSerializer(serializers.Serializer[Any]):
    """The component is known."""

    status = serializers.CharField()
    name = serializers.CharField()
    component_type = serializers.CharField()
    runtime_id = serializers.CharField()


class NamedSerializer(serializers.Serializer[Any]):
    """`status` is ok, or unknown when no such component has registered."""

    status = serializers.CharField()
    name = serializers.CharField(allow_null=True)


class RuntimeSerializer(serializers.Serializer[Runtime]):
    """A component that announced itself."""

    name = serializers.CharField()
    component_type = serializers.CharField()
    base_url = serializers.CharField()
    runtime = serializers.SerializerMethodField()
    status = serializers.CharField()
    capacity = serializers.IntegerField(allow_null=True)
    labels = serializers.JSONField()
    last_heartbeat = serializers.DateTimeField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def get_runtime(self, component: Runtime) -> str:
        """Its type: cpu, gpu, qpu."""
        return str(component.runtime.get("type") or "")


class RuntimesSerializer(serializers.Serializer[Any]):
    """Components, with the filters they were chosen by."""

    items = RuntimeSerializer(many=True)
    runtime = serializers.CharField(allow_null=True)
    status = serializers.CharField(allow_null=True)
    count = serializers.IntegerField()
