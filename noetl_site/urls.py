"""Every address of the server."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from noetl_site import health

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/health", health.live, name="health"),
    path("api/health/ready", health.ready, name="health-ready"),
]
