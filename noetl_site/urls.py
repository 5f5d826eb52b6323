"""Every address of the server."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from noetl_site import health
from noetl_site.rest.pages import DocumentView, SwaggerView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="root"),
    path("admin/", admin.site.urls),
    path("health", health.live, name="health-root"),
    path("api/health", health.live, name="health"),
    path("api/health/ready", health.ready, name="health-ready"),
    path("api/schema", DocumentView.as_view(), name="schema"),
    path("api/docs", SwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/", include("catalog.rest_api.urls")),
    path("api/", include("executions.rest_api.urls")),
    path("api/", include("executors.rest_api.urls")),
]

handler400 = "noetl_site.errors.bad_request"
handler403 = "noetl_site.errors.forbidden"
handler404 = "noetl_site.errors.not_found"
handler500 = "noetl_site.errors.server_error"
