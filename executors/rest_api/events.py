"""The views that workers post to while they work: events, and templates to render."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from executions.api import (
    ACTION_COMPLETED,
    ACTION_ERROR,
    SPELLINGS,
    Event,
    Rendering,
    TemplateError,
    get_event,
    get_outcome,
    post_annotation,
)
from executors.rest_api.fields import storable
from executors.rest_api.requests import LOST, WORK, fence_of, principal_of, valid
from executors.rest_api.serializers import PostedEventSerializer, RenderedSerializer, RenderSerializer
from executors.sandbox.sanitise import clean_text
from executors.worker.protocol import accept_posted_outcome, find_held_template, parsed
from queueing.api import find_job_of_node, is_held_by

ANNOTATE = "executions.post_event"
RENDER = "executions.render_template"
TAKEN_OVER = ("env", "job", "work", "workload")
"""Names of `extra_context` that do not count: the server has its own of them, and a worker's whole environment has no
business in a template."""


class PostEventView(GenericAPIView[Any]):
    """Posted events."""

    needs: ClassVar = {"POST": f"{WORK}|{ANNOTATE}"}
    permitted: frozenset[str] = frozenset()
    serializer_class = PostedEventSerializer

    @extend_schema(
        operation_id="events_post",
        responses={201: OpenApiResponse(description="The event, with its id."), 200: OpenApiResponse(), 409: LOST},
    )
    def post(self, request: Request) -> Response:
        """Post an event.

        `action_completed` and `action_error` of a leased job are its accepted outcome. Anything else is kept as an
        annotation that nothing is planned with. An id that is there already gives the event that has it (200).
        """
        given = valid(self, request)
        posted = _event(given)
        if posted.type in (ACTION_COMPLETED, ACTION_ERROR) and WORK in self.permitted:
            return self._accept(request, given, posted)
        if ANNOTATE not in self.permitted and not is_held_by(
            given["execution_id"], posted.node_id, principal_of(request)
        ):
            raise PermissionDenied("a worker may post events of jobs that it holds only")
        seq, is_new = post_annotation(given["execution_id"], replace(posted, **_storable(posted)))
        return Response(_told(get_event(given["execution_id"], seq)), status=201 if is_new else 200)

    def _accept(self, request: Request, given: dict[str, Any], posted: Event) -> Response:
        execution_id, node_id = given["execution_id"], posted.node_id
        fence = fence_of(request, find_job_of_node(execution_id, node_id), given)
        judgement = accept_posted_outcome(fence, posted)
        return Response(
            _told(get_outcome(execution_id, node_id, fence.attempt)), status=201 if judgement == "accepted" else 200
        )


def _event(given: dict[str, Any]) -> Event:
    return Event(
        seq=0,
        type=SPELLINGS.get(given["event_type"], given["event_type"]),
        node_id=given["node_id"],
        node_name=given["node_name"],
        node_type=given["node_type"],
        status=given["status"],
        context=given["context"],
        result=given["result"],
        error=given["error"],
        meta=given["meta"],
        loop_name=given["loop_name"],
        index=given["current_index"],
        item=given["current_item"],
        duration_seconds=given["duration"],
        traceback=given["traceback"],
        worker_id=given["worker_id"],
        posted_id=given["event_id"],
    )


def _storable(posted: Event) -> dict[str, Any]:
    """What of an annotation was not checked yet: of an outcome it would be the step's failure. Raises."""
    kept = {"result": storable(posted.result), "error": storable(posted.error)}
    return {**kept, "traceback": None if posted.traceback is None else clean_text(str(posted.traceback))}


def _told(row: Any) -> dict[str, Any]:
    """The event as it is kept, under the type it was posted with."""
    return {
        "event_id": str(row.event_id),
        "posted_id": row.posted_id,
        "execution_id": str(row.execution_id),
        "event_type": (row.meta or {}).get("posted_type", row.event_type),
        "node_id": row.node_id,
        "node_name": row.node_name,
        "node_type": row.node_type,
        "status": row.status,
        "duration": row.duration,
        "timestamp": row.timestamp,
        "context": row.context,
        "result": row.result,
        "error": row.error,
        "metadata": row.meta,
        "worker_id": row.worker_id,
    }


class RenderView(GenericAPIView[Any]):
    """Rendering."""

    needs: ClassVar = {"POST": f"{WORK}|{RENDER}"}
    permitted: frozenset[str] = frozenset()
    serializer_class = RenderSerializer

    @extend_schema(operation_id="context_render", responses=RenderedSerializer)
    def post(self, request: Request) -> Response:
        """Render a template against an execution.

        The stored action and context of a job that the caller holds are given back as they are: they were rendered
        when the job was planned, and data is never a template. Other templates need the permission to render.
        """
        given = valid(self, request)
        template = given["template"]
        held = find_held_template(given["execution_id"], template, principal_of(request))
        if held is not None:
            return Response(_rendered(held, sorted(_map(held.get("work"))), {}))
        if RENDER not in self.permitted:
            raise PermissionDenied("this is the action of no job that you hold: rendering it needs an operator's token")
        extra = {name: value for name, value in given["extra_context"].items() if name not in TAKEN_OVER}
        work = template.get("work") if isinstance(template, dict) else None
        rendering = Rendering(given["execution_id"], extra, work if isinstance(work, dict) else None)
        rendered, errors = _render_parts(rendering, template, strict=given["strict"])
        return Response(_rendered(rendered, rendering.names, errors))


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rendered(rendered: Any, names: list[str], errors: dict[str, str]) -> dict[str, Any]:
    return {"status": "ok", "rendered": rendered, "context_keys": names, "errors": errors}


def _render_parts(rendering: Rendering, template: Any, *, strict: bool) -> tuple[Any, dict[str, str]]:
    """The template with its parts rendered, and why a part was left as it is. Raises: `TemplateError` if strict."""
    parts = {"work", "task"} & template.keys() if isinstance(template, dict) else set()
    rendered: dict[str, Any] = dict(template) if parts else {}
    errors: dict[str, str] = {}
    for name, part in ((name, template[name]) for name in sorted(parts)) if parts else (("", template),):
        try:
            rendered[name] = rendering.render(part)
        except TemplateError as error:
            if strict:
                raise
            rendered[name], errors[name or "template"] = part, str(error)
    if "task" in parts:
        rendered["task"] = parsed(rendered["task"])
    return (rendered if parts else rendered[""]), errors
