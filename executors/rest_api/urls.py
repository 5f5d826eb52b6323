"""The addresses of the worker protocol, below `/api/`."""

from __future__ import annotations

from django.urls import path

from executors.rest_api import credentials, events, queue, runtime

urlpatterns = [
    path("queue", queue.ListView.as_view(), name="queue"),
    path("queue/enqueue", queue.EnqueueView.as_view(), name="queue-enqueue"),
    path("queue/lease", queue.LeaseView.as_view(), name="queue-lease"),
    path("queue/size", queue.SizeView.as_view(), name="queue-size"),
    path("queue/reap-expired", queue.ReapView.as_view(), name="queue-reap-expired"),
    path("queue/<int:job_id>/complete", queue.CompleteView.as_view(), name="queue-complete"),
    path("queue/<int:job_id>/fail", queue.FailView.as_view(), name="queue-fail"),
    path("queue/<int:job_id>/heartbeat", queue.HeartbeatView.as_view(), name="queue-heartbeat"),
    path("queue/<int:job_id>/log", queue.AppendLogView.as_view(), name="queue-log"),
    path("queue/<int:job_id>/release", queue.ReleaseView.as_view(), name="queue-release"),
    path("queue/<int:job_id>/secrets", queue.SecretsView.as_view(), name="queue-secrets"),
    path("events", events.PostEventView.as_view(), name="events-post"),
    path("context/render", events.RenderView.as_view(), name="context-render"),
    path("credentials", credentials.CredentialsView.as_view(), name="credentials"),
    path("credentials/<str:reference>", credentials.CredentialView.as_view(), name="credential"),
    path("credentials/<str:reference>/test", credentials.TryView.as_view(), name="credential-test"),
    path("worker/pool/register", runtime.RegisterPoolView.as_view(), name="worker-pool-register"),
    path("worker/pool/heartbeat", runtime.HeartbeatPoolView.as_view(), name="worker-pool-heartbeat"),
    path("worker/pool/deregister", runtime.DeregisterPoolView.as_view(), name="worker-pool-deregister"),
    path("worker/pools", runtime.PoolsView.as_view(), name="worker-pools"),
    path("runtime", runtime.RuntimesView.as_view(), name="runtimes"),
    path("runtime/register", runtime.RegisterView.as_view(), name="runtime-register"),
    path("runtime/heartbeat", runtime.HeartbeatView.as_view(), name="runtime-heartbeat"),
    path("runtime/deregister", runtime.DeregisterView.as_view(), name="runtime-deregister"),
]
