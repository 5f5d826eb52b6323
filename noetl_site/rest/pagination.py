"""Paging lists by cursor. The next page is a `Link` header (RFC 8288), so that bodies keep NoETL's shapes."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response


class LinkPagination(CursorPagination):
    """Newest first; `limit` says how many."""

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"
    ordering = "-pk"

    def decode_cursor(self, request: Request) -> Any:
        """As DRF's. Raises: `NotFound` for a cursor that is not one of ours, whose positions are ids."""
        cursor = super().decode_cursor(request)
        position = "0" if cursor is None or cursor.position is None else str(cursor.position)
        if not (position.isascii() and position.isdigit() and len(position) < 20):
            raise NotFound(self.invalid_cursor_message)
        return cursor

    def get_paginated_response(self, data: Any) -> Response:
        """The body as it is, with links to the pages around it."""
        pages = {"prev": self.get_previous_link(), "next": self.get_next_link()}
        links = ", ".join(f'<{url}>; rel="{name}"' for name, url in pages.items() if url)
        return Response(data, headers={"Link": links} if links else None)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """For the OpenAPI document: nothing is wrapped."""
        return schema
