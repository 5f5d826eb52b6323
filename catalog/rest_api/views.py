"""The views of the catalog."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from catalog import selectors, services
from catalog.models import PlaybookVersion
from catalog.rest_api.serializers import (
    RESOURCE_TYPE,
    ContentSerializer,
    EntriesQuery,
    EntrySerializer,
    PlaybookQuery,
    RegisteredSerializer,
    RegisterSerializer,
    SummarySerializer,
    ValidatedSerializer,
)

VIEW = "catalog.view_playbookversion"
REGISTER = "catalog.register_playbookversion"
INVALID = OpenApiResponse(description="The text is no valid playbook: every problem with its line and column.")


def find_asked(request: Request) -> PlaybookVersion:
    """The version that the query's `playbook_id` names. Raises: `PlaybookNotFound`."""
    given = PlaybookQuery(data=request.query_params.dict())
    given.is_valid(raise_exception=True)
    return selectors.get_version_row(given.validated_data["playbook_id"])


class RegisterView(GenericAPIView[Any]):
    """Register playbooks."""

    needs: ClassVar = {"POST": REGISTER}
    serializer_class = RegisterSerializer

    @extend_schema(
        operation_id="catalog_register",
        parameters=[OpenApiParameter("resource_type", description="As in the body.")],
        responses={201: RegisteredSerializer, 200: RegisteredSerializer, 422: INVALID},
    )
    def post(self, request: Request) -> Response:
        """Register a playbook: a new version, unless the newest one is this very text (200, `created: false`)."""
        given = self.get_serializer(data=_with_query(request))
        given.is_valid(raise_exception=True)
        actor = request.user.get_username()
        done = services.register_playbook(given.validated_data["content"], "content", actor)
        told = {
            "status": "success",
            "message": "registered" if done.created else "unchanged: the newest version is this text",
            "resource_path": done.playbook.path,
            "resource_version": done.playbook.version,
            "resource_type": RESOURCE_TYPE,
            "created": done.created,
            "warnings": [asdict(problem) for problem in done.warnings],
        }
        return Response(told, status=201 if done.created else 200)


def _with_query(request: Request) -> Any:
    """The body, with `resource_type` from the query when only that has it."""
    asked = request.query_params.get("resource_type")
    if asked is None or not isinstance(request.data, dict) or "resource_type" in request.data:
        return request.data
    return {**request.data, "resource_type": asked}


class ListView(GenericAPIView[Any]):
    """Versions."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = EntrySerializer

    @extend_schema(
        operation_id="catalog_list",
        parameters=[EntriesQuery],
        responses={200: {"type": "object", "properties": {"entries": {"type": "array", "items": {}}}}},
    )
    def get(self, request: Request) -> Response:
        """Playbook versions with their text, newest first."""
        given = EntriesQuery(data=request.query_params.dict())
        given.is_valid(raise_exception=True)
        known = given.validated_data["resource_type"].lower() in ("playbook", "playbooks")
        rows = selectors.query_versions(given.validated_data["path"])
        page = self.paginate_queryset(rows if known else rows.none())
        return self.get_paginated_response({"entries": self.get_serializer(page, many=True).data})


class PlaybooksView(GenericAPIView[Any]):
    """Playbooks."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = SummarySerializer
    # Bounded by the number of playbooks, and clients of the original know no pages here.
    pagination_class = None

    @extend_schema(operation_id="catalog_playbooks")
    def get(self, request: Request) -> Response:
        """Every playbook by its newest version, by path."""
        return Response(self.get_serializer(selectors.query_newest_versions(), many=True).data)


class ShortPlaybooksView(PlaybooksView):
    """Playbooks, at the original's shorter address."""

    @extend_schema(operation_id="playbooks")
    def get(self, request: Request) -> Response:
        """The same as `/catalog/playbooks`."""
        return super().get(request)


class ValidateView(GenericAPIView[Any]):
    """Judging texts."""

    needs: ClassVar = {"POST": VIEW}
    serializer_class = ContentSerializer

    @extend_schema(operation_id="catalog_validate", responses=ValidatedSerializer)
    def post(self, request: Request) -> Response:
        """Every problem of a text, without registering it."""
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        playbook, problems = services.validate_text(given.validated_data["content"])
        return Response({"valid": playbook is not None, "errors": [asdict(problem) for problem in problems]})


class PlaybookView(GenericAPIView[Any]):
    """One playbook."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = SummarySerializer

    @extend_schema(operation_id="catalog_playbook", parameters=[PlaybookQuery])
    def get(self, request: Request) -> Response:
        """A playbook by `?playbook_id=`."""
        return Response(self.get_serializer(find_asked(request)).data)


class ContentByQueryView(GenericAPIView[Any]):
    """The text of one playbook."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = ContentSerializer

    @extend_schema(operation_id="catalog_content_by_query", parameters=[PlaybookQuery])
    def get(self, request: Request) -> Response:
        """The text of a playbook by `?playbook_id=`."""
        return Response(self.get_serializer(find_asked(request)).data)


class PlaybookByPathView(GenericAPIView[Any]):
    """One playbook, by its path in the address."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = SummarySerializer

    @extend_schema(operation_id="catalog_playbook_by_path")
    def get(self, request: Request, playbook_id: str) -> Response:
        """A playbook by PATH or PATH:VERSION."""
        return Response(self.get_serializer(selectors.get_version_row(playbook_id)).data)


class ContentView(GenericAPIView[Any]):
    """The text of one playbook, by its path in the address."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = ContentSerializer

    @extend_schema(operation_id="catalog_content")
    def get(self, request: Request, playbook_id: str) -> Response:
        """The text of a playbook by PATH or PATH:VERSION."""
        return Response(self.get_serializer(selectors.get_version_row(playbook_id)).data)


class VersionView(GenericAPIView[Any]):
    """One version."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = EntrySerializer

    @extend_schema(operation_id="catalog_version")
    def get(self, request: Request, path: str, version: str) -> Response:
        """One version of a playbook; `latest` is the newest."""
        return Response(self.get_serializer(selectors.get_version_row(f"{path}:{version}")).data)
