"""The addresses of the catalog, below `/api/`."""

from __future__ import annotations

from django.urls import path

from catalog.rest_api import views

urlpatterns = [
    path("catalog/register", views.RegisterView.as_view(), name="catalog-register"),
    path("catalog/list", views.ListView.as_view(), name="catalog-list"),
    path("playbooks", views.ShortPlaybooksView.as_view(), name="playbooks"),
    path("catalog/playbooks", views.PlaybooksView.as_view(), name="catalog-playbooks"),
    path("catalog/playbooks/validate", views.ValidateView.as_view(), name="catalog-validate"),
    path("catalog/playbooks/content", views.ContentByQueryView.as_view(), name="catalog-content-by-query"),
    path("catalog/playbook", views.PlaybookView.as_view(), name="catalog-playbook"),
    path("catalog/playbooks/<path:playbook_id>/content", views.ContentView.as_view(), name="catalog-content"),
    path("catalog/playbooks/<path:playbook_id>", views.PlaybookByPathView.as_view(), name="catalog-playbook-by-path"),
    path("catalog/<path:path>/<str:version>", views.VersionView.as_view(), name="catalog-version"),
]
