"""The views of executions and their events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from executions import selectors, services
from executions.errors import EventNotFound, ExecutionNotFound
from executions.models import EventLog
from executions.rest_api.serializers import (
    ApprovalSerializer,
    CancelledSerializer,
    CancelSerializer,
    EventSerializer,
    EventsQuery,
    EventsSerializer,
    ExecutionSerializer,
    ExecutionsQuery,
    ExecutionWithEventsSerializer,
    LogLineSerializer,
    LogQuery,
    LogSerializer,
    PausedSerializer,
    RerunSerializer,
    RunSerializer,
    SignalSerializer,
    StartedSerializer,
)
from executions.selectors import ExecutionView

VIEW: Final = "executions.view_execution"
VIEW_EVENTS: Final = "executions.view_eventlog"
VIEW_LOG: Final = "executions.view_actionlog"
MAX_KEY_CHARS: Final = 200

# Starts come often, and a serializer that is made for one request copies all its fields first. These two keep nothing
# of what they are given.
_RUN: Final = RunSerializer()
_EXECUTION: Final = ExecutionSerializer()


class RunView(GenericAPIView[Any]):
    """Starts."""

    needs: ClassVar = {"POST": "executions.start_execution"}
    serializer_class = RunSerializer

    @extend_schema(
        operation_id="executions_run",
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                location=OpenApiParameter.HEADER,
                description="The same key with the same request starts once; every reply names that execution.",
            )
        ],
        responses={201: StartedSerializer},
    )
    def post(self, request: Request) -> Response:
        """Start an execution of a playbook in the catalog."""
        execution_id = services.start_execution(
            **_RUN.run_validation(request.data),
            idempotency_key=_key_of(request),
            started_by=request.user.get_username(),
        )
        told = _EXECUTION.to_representation(selectors.get_execution(execution_id))
        message = f"execution of {told['playbook_id']} {told['version']} has started"
        told["result"] = {
            "status": "success",
            "message": message,
            "result": {"status": "queued"},
            "execution_id": told["id"],
            "export_path": None,
        }
        place = reverse("execution", args=[told["id"]], request=request)
        return Response(told, status=201, headers={"Location": place})


def _key_of(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARS and key.isprintable()):
        raise ValidationError({"Idempotency-Key": f"give 1 to {MAX_KEY_CHARS} printable characters"})
    return key


class ListView(GenericAPIView[Any]):
    """Executions."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = ExecutionSerializer

    @extend_schema(
        operation_id="executions_list",
        parameters=[ExecutionsQuery],
        responses=ExecutionSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Executions, the newest first."""
        given = ExecutionsQuery(data=request.query_params.dict())
        given.is_valid(raise_exception=True)
        page = self.paginate_queryset(selectors.query_executions(**given.validated_data)) or []
        return self.get_paginated_response(self.get_serializer(map(selectors.view_of, page), many=True).data)


class DetailView(GenericAPIView[Any]):
    """One execution."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = ExecutionWithEventsSerializer

    @extend_schema(operation_id="executions_get", parameters=[EventsQuery])
    def get(self, request: Request, execution_id: str) -> Response:
        """An execution with its events, oldest first. `@latest` is the newest execution."""
        execution = selectors.get_execution(execution_id)
        return _page_of_events(request, execution, ExecutionSerializer(execution).data)


class ChildrenView(GenericAPIView[Any]):
    """The children of an execution."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = ExecutionSerializer

    @extend_schema(operation_id="executions_children", responses=ExecutionSerializer(many=True))
    def get(self, request: Request, execution_id: str) -> Response:
        """The executions that an execution has started, the newest first."""
        id_ = int(selectors.get_execution(execution_id).id)
        page = self.paginate_queryset(selectors.query_executions(parent_execution_id=id_)) or []
        return self.get_paginated_response(self.get_serializer(map(selectors.view_of, page), many=True).data)


class CancelView(GenericAPIView[Any]):
    """Cancelling."""

    needs: ClassVar = {"POST": "executions.cancel_execution"}
    serializer_class = CancelSerializer

    @extend_schema(operation_id="executions_cancel", responses=CancelledSerializer)
    def post(self, request: Request, execution_id: str) -> Response:
        """Cancel an execution: waiting jobs are called off, running ones are asked to stop."""
        given = self.get_serializer(data={} if request.data is None else request.data)
        given.is_valid(raise_exception=True)
        id_ = selectors.get_execution(execution_id).id
        cancelled = services.cancel_execution(int(id_), given.validated_data["reason"], request.user.get_username())
        told = {"status": selectors.get_execution(id_).status, "execution_id": id_, "cancelled": cancelled}
        return Response(told)


class _SteeringView(GenericAPIView[Any]):
    """What is told to a running execution."""

    needs: ClassVar = {"POST": "executions.control_execution"}

    def given(self, request: Request) -> dict[str, Any]:
        """The checked body; none is an empty one."""
        given = self.get_serializer(data={} if request.data is None else request.data)
        given.is_valid(raise_exception=True)
        checked: dict[str, Any] = given.validated_data
        return checked

    def told(self, execution_id: str) -> Response:
        """The execution's status now."""
        return Response({"status": selectors.get_execution(execution_id).status, "execution_id": execution_id})


class PauseView(_SteeringView):
    """Pausing."""

    serializer_class = CancelSerializer

    @extend_schema(operation_id="executions_pause", responses=PausedSerializer)
    def post(self, request: Request, execution_id: str) -> Response:
        """Pause an execution: what runs goes on to its end, and nothing new starts until it is resumed."""
        reason = self.given(request)["reason"]
        id_ = selectors.get_execution(execution_id).id
        services.pause_execution(int(id_), reason, request.user.get_username())
        return self.told(id_)


class ResumeView(_SteeringView):
    """Resuming."""

    serializer_class = CancelSerializer

    @extend_schema(operation_id="executions_resume", responses=PausedSerializer)
    def post(self, request: Request, execution_id: str) -> Response:
        """Let a paused execution go on from all that has happened meanwhile."""
        self.given(request)
        id_ = selectors.get_execution(execution_id).id
        services.resume_execution(int(id_), request.user.get_username())
        return self.told(id_)


class SignalView(_SteeringView):
    """Signals."""

    serializer_class = SignalSerializer

    @extend_schema(operation_id="executions_signal", responses=PausedSerializer)
    def post(self, request: Request, execution_id: str, name: str) -> Response:
        """Send a signal: the first wait for it gets its data; it is kept when none waits yet."""
        data = self.given(request)["data"]
        id_ = selectors.get_execution(execution_id).id
        services.send_signal(int(id_), name, data, request.user.get_username())
        return self.told(id_)


class ApprovalView(_SteeringView):
    """Approvals."""

    serializer_class = ApprovalSerializer

    @extend_schema(operation_id="executions_approve", responses=PausedSerializer)
    def post(self, request: Request, execution_id: str, place: str) -> Response:
        """Answer the approval that waits at a step, or at a node of it."""
        given = self.given(request)
        id_ = selectors.get_execution(execution_id).id
        user: Any = request.user
        approver = services.Approver(
            user.get_username(), frozenset(user.groups.values_list("name", flat=True)), bool(user.is_superuser)
        )
        services.answer_approval(int(id_), place, approved=given["approved"], answer=given["answer"], approver=approver)
        return self.told(id_)


class RerunView(_SteeringView):
    """Running again."""

    needs: ClassVar = {"POST": "executions.start_execution"}
    serializer_class = RerunSerializer

    @extend_schema(operation_id="executions_rerun", responses={201: ExecutionSerializer})
    def post(self, request: Request, execution_id: str) -> Response:
        """Start an execution again, whole or in part: the new one is linked to it and pins the same version."""
        given = self.given(request)
        id_ = selectors.get_execution(execution_id).id
        new = services.rerun_execution(int(id_), **given, started_by=request.user.get_username())
        return Response(ExecutionSerializer(selectors.get_execution(new)).data, status=status.HTTP_201_CREATED)


class EventsOfExecutionView(GenericAPIView[Any]):
    """The events of an execution."""

    needs: ClassVar = {"GET": VIEW_EVENTS}
    serializer_class = EventsSerializer

    @extend_schema(operation_id="events_by_execution", parameters=[EventsQuery])
    def get(self, request: Request, execution_id: str) -> Response:
        """The events of an execution, oldest first; a `Link` header leads to the rest."""
        return _page_of_events(request, selectors.get_execution(execution_id))


class LogView(GenericAPIView[Any]):
    """The log of an execution."""

    needs: ClassVar = {"GET": VIEW_LOG}
    serializer_class = LogSerializer

    @extend_schema(operation_id="executions_logs", parameters=[LogQuery])
    def get(self, request: Request, execution_id: str) -> Response:
        """What the actions of an execution printed and logged, oldest first; a `Link` header leads to the rest."""
        id_ = selectors.get_execution(execution_id).id
        given = LogQuery(data=request.query_params.dict())
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        rows = selectors.query_log(id_, asked["after"], asked.get("step"))[: asked["limit"]]
        lines: Any = LogLineSerializer(instance=rows, many=True).data  # type: ignore[arg-type]  # the stubs know no `many`
        headers = _link_to_rest(request, lines, asked["limit"])
        return Response({"lines": lines, "dropped": selectors.count_dropped_lines(id_)}, headers=headers)


class EventView(GenericAPIView[Any]):
    """One event."""

    needs: ClassVar = {"GET": VIEW_EVENTS}
    serializer_class = EventsSerializer

    @extend_schema(operation_id="events_by_id")
    def get(self, request: Request, event_id: str) -> Response:
        """The event with this id, or those that were posted under it, one per execution at the most."""
        return Response({"events": _found(event_id)})


class EventsView(GenericAPIView[Any]):
    """Events by either id."""

    needs: ClassVar = {"GET": VIEW_EVENTS}
    serializer_class = EventsSerializer

    @extend_schema(operation_id="events_by_either_id", parameters=[EventsQuery])
    def get(self, request: Request, some_id: str) -> Response:
        """The events of the execution with this id, or else the event with it."""
        try:
            execution = selectors.get_execution(some_id)
        except ExecutionNotFound:
            return Response({"events": _found(some_id)})
        return _page_of_events(request, execution)


def tell_events(events: list[EventLog], execution: ExecutionView) -> list[dict[str, Any]]:
    """Events of one execution as JSON."""
    told: Any = EventSerializer(instance=events, many=True, context={"execution": execution}).data  # type: ignore[arg-type]  # the stubs know no `many`
    return list(told)


def _found(event_id: str) -> list[dict[str, Any]]:
    """The events by an id, as JSON. Raises: `EventNotFound`."""
    events = selectors.find_events(event_id)
    if not events:
        raise EventNotFound(event_id)
    return [told for event in events for told in tell_events([event], selectors.get_execution(event.execution_id))]


def _page_of_events(request: Request, execution: ExecutionView, about: Mapping[str, Any] | None = None) -> Response:
    """The asked part of an execution's events beside `about`; a `Link` leads to those after them, if there may be."""
    given = EventsQuery(data=request.query_params.dict())
    given.is_valid(raise_exception=True)
    after, limit = given.validated_data["after"], given.validated_data["limit"]
    rows: Iterable[EventLog] = selectors.query_events(execution.id, after)[:limit]
    if given.validated_data["large"]:
        rows = selectors.with_large_results(rows)
    events = tell_events(list(rows), execution)
    return Response({**(about or {}), "events": events}, headers=_link_to_rest(request, events, limit))


def _link_to_rest(request: Request, told: Sequence[Mapping[str, Any]], limit: int) -> dict[str, str]:
    """The header that leads to what comes after these, if there may be more."""
    if len(told) < limit:
        return {}
    query = request.query_params.copy()
    query["after"] = str(told[-1]["seq"])
    return {"Link": f'<{request.build_absolute_uri(request.path)}?{query.urlencode()}>; rel="next"'}
