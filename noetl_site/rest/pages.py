"""The OpenAPI document and its pages, for those who are authenticated."""

from __future__ import annotations

from typing import ClassVar

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.request import Request

from noetl_site.access.permissions import NeededPermission


class DocumentView(SpectacularAPIView):
    """The OpenAPI document of this server."""

    needs: ClassVar = {"GET": ""}
    permission_classes = (NeededPermission,)

    def _get_version_parameter(self, request: Request) -> None:
        """There is one version, and what the query says of another would go into a header."""


class SwaggerView(SpectacularSwaggerView):
    """The API's pages, to read and to try; all their parts are served from here."""

    needs: ClassVar = {"GET": ""}
    permission_classes = (NeededPermission,)
