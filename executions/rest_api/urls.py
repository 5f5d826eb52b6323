"""The addresses of executions and their events, below `/api/`."""

from __future__ import annotations

from django.urls import path

from executions.rest_api import views

urlpatterns = [
    path("executions/run", views.RunView.as_view(), name="executions-run"),
    path("executions", views.ListView.as_view(), name="executions"),
    path("executions/<str:execution_id>", views.DetailView.as_view(), name="execution"),
    path("executions/<str:execution_id>/children", views.ChildrenView.as_view(), name="execution-children"),
    path("executions/<str:execution_id>/logs", views.LogView.as_view(), name="execution-logs"),
    path("executions/<str:execution_id>/cancel", views.CancelView.as_view(), name="execution-cancel"),
    path("executions/<str:execution_id>/pause", views.PauseView.as_view(), name="execution-pause"),
    path("executions/<str:execution_id>/resume", views.ResumeView.as_view(), name="execution-resume"),
    path("executions/<str:execution_id>/signals/<str:name>", views.SignalView.as_view(), name="execution-signal"),
    path(
        "executions/<str:execution_id>/approvals/<str:place>", views.ApprovalView.as_view(), name="execution-approval"
    ),
    path("executions/<str:execution_id>/rerun", views.RerunView.as_view(), name="execution-rerun"),
    path("events/by-execution/<str:execution_id>", views.EventsOfExecutionView.as_view(), name="events-of-execution"),
    path("events/by-id/<str:event_id>", views.EventView.as_view(), name="event"),
    path("events/<str:some_id>", views.EventsView.as_view(), name="events-by-either-id"),
]
