"""The views of the queue: enqueue, lease, report, repair."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from executions.api import append_log, enqueue_external_job
from executors.rest_api.requests import LOST, WORK, asked_of, fence_of, principal_of, valid
from executors.rest_api.serializers import (
    AppendLogSerializer,
    ClaimSerializer,
    CompleteSerializer,
    CountSerializer,
    EnqueuedSerializer,
    EnqueueSerializer,
    FailSerializer,
    HeartbeatSerializer,
    HeldSerializer,
    JobSerializer,
    JobsQuery,
    JobsSerializer,
    JudgedSerializer,
    LeasedJobSerializer,
    LeaseReplySerializer,
    LeaseSerializer,
    OkSerializer,
    ReclaimedSerializer,
    SecretsSerializer,
    SizeQuery,
)
from executors.worker.protocol import complete_job, fail_job, secrets_of
from executors.worker.reconciler import reap_expired
from queueing.api import (
    DEFAULT_POOL,
    EXTERNAL,
    LeaseLost,
    NewJob,
    count_jobs,
    extend_leases,
    lease_jobs,
    query_jobs,
    release_jobs,
)

VIEW: Final = "queueing.view_job"
REPAIR: Final = "queueing.repair_job"
MAX_REAPED: Final = 1000


class EnqueueView(GenericAPIView[Any]):
    """Jobs by hand."""

    needs: ClassVar = {"POST": "queueing.enqueue_job"}
    serializer_class = EnqueueSerializer

    @extend_schema(operation_id="queue_enqueue", responses=EnqueuedSerializer)
    def post(self, request: Request) -> Response:
        """Enqueue a job by hand in a running execution. Its outcome is recorded, and planned with by nobody."""
        given = valid(self, request)
        execution_id, node_id, action = given["execution_id"], given["node_id"], given["action"]
        job = NewJob(
            execution_id=execution_id,
            node_id=node_id,
            node_name=given.get("node_name", node_id),
            kind=action["kind"],
            action=action,
            context=given.get("context") or given.get("input_context") or {},
            uuid="",
            pool=given.get("pool", DEFAULT_POOL),
            priority=given["priority"],
            max_attempts=given["max_attempts"],
            origin=EXTERNAL,
            available_at=given["available_at"],
        )
        added = enqueue_external_job(job)
        return Response({"status": "ok", "id": None if added is None else str(added)})


class LeaseView(GenericAPIView[Any]):
    """Leases."""

    needs: ClassVar = {"POST": WORK}
    serializer_class = LeaseSerializer

    @extend_schema(operation_id="queue_lease", responses=LeaseReplySerializer)
    def post(self, request: Request) -> Response:
        """Lease one job: of the highest priority, in fair order, and with room at its limits."""
        given = valid(self, request)
        pools = given.get("pools", [DEFAULT_POOL])
        leased = lease_jobs(given["worker_id"], pools, 1, given["lease_seconds"], principal_of(request))
        if not leased:
            return Response({"status": "empty"})
        row = query_jobs(id=leased[0].id).get()
        # As it was leased, whatever has become of it since.
        row.lease_token, row.attempts, row.status = leased[0].lease_token, leased[0].attempt, "leased"
        row.worker_id, row.lease_until = given["worker_id"], leased[0].lease_until
        return Response({"status": "ok", "job": LeasedJobSerializer(row).data})


class CompleteView(GenericAPIView[Any]):
    """Results."""

    needs: ClassVar = {"POST": WORK}
    serializer_class = CompleteSerializer

    @extend_schema(operation_id="queue_complete", responses={200: JudgedSerializer, 409: LOST})
    def post(self, request: Request, job_id: int) -> Response:
        """Hand in the result of a leased job. After a posted outcome of the same lease it changes nothing."""
        given = valid(self, request)
        fence = fence_of(request, job_id, given)
        judgement = complete_job(fence, given["result"], given["duration"], log=given["log"])
        return Response({"status": "ok", "id": str(job_id), "judgement": judgement})


class FailView(GenericAPIView[Any]):
    """Failures."""

    needs: ClassVar = {"POST": WORK}
    serializer_class = FailSerializer

    @extend_schema(operation_id="queue_fail", responses={200: JudgedSerializer, 409: LOST})
    def post(self, request: Request, job_id: int) -> Response:
        """Hand in the failure of a leased job. After a posted outcome of the same lease it changes nothing."""
        given = valid(self, request)
        judgement = fail_job(
            fence_of(request, job_id, given),
            given["error"],
            data=given["result"],
            traceback=given["traceback"],
            duration_seconds=given["duration"],
            log=given["log"],
            retry_delay_seconds=given["retry_delay_seconds"] if given["retry"] else None,
        )
        return Response({"status": "ok", "id": str(job_id), "judgement": judgement})


class HeartbeatView(GenericAPIView[Any]):
    """Heartbeats."""

    needs: ClassVar = {"POST": WORK}
    serializer_class = HeartbeatSerializer

    @extend_schema(operation_id="queue_heartbeat", responses={200: HeldSerializer, 409: LOST})
    def post(self, request: Request, job_id: int) -> Response:
        """Extend the lease of a job. One that has run out is not revived."""
        given = valid(self, request)
        held = extend_leases([fence_of(request, job_id, given)], given["extend_seconds"])
        if not held:
            raise LeaseLost(job_id)
        told = {"status": "ok", "id": str(job_id), "lease_until": held[0].lease_until}
        return Response(told | {"cancel_requested": held[0].cancel_requested})


class AppendLogView(GenericAPIView[Any]):
    """Logs of running jobs."""

    needs: ClassVar = {"POST": WORK}
    serializer_class = AppendLogSerializer

    @extend_schema(operation_id="queue_log", responses={200: OkSerializer, 409: LOST})
    def post(self, request: Request, job_id: int) -> Response:
        """Keep what the action of a leased job has logged so far; what comes last goes with its result."""
        given = valid(self, request)
        append_log(fence_of(request, job_id, given), given["log"])
        return Response({"status": "ok", "id": str(job_id)})


class ReleaseView(GenericAPIView[Any]):
    """Giving jobs back."""

    needs: ClassVar = {"POST": WORK}
    serializer_class = ClaimSerializer

    @extend_schema(operation_id="queue_release", responses={200: OkSerializer, 409: LOST})
    def post(self, request: Request, job_id: int) -> Response:
        """Give a leased job back, when the worker stops: counted neither as lost nor as failed."""
        if not release_jobs([fence_of(request, job_id, valid(self, request))]):
            raise LeaseLost(job_id)
        return Response({"status": "ok", "id": str(job_id)})


class SecretsView(GenericAPIView[Any]):
    """Credentials of leased jobs."""

    needs: ClassVar = {"POST": "executors.resolve_credential"}
    serializer_class = ClaimSerializer

    @extend_schema(operation_id="queue_secrets", responses={200: SecretsSerializer, 409: LOST})
    def post(self, request: Request, job_id: int) -> Response:
        """The credentials that a leased job's action names, in clear, for its holder while the lease lasts."""
        given = valid(self, request)
        if given.get("lease_token") is None:
            raise ValidationError({"lease_token": "credentials are given for the lease's token only"})
        found = secrets_of(fence_of(request, job_id, given))
        told = {credential.name: {"type": credential.type, "data": credential.data} for credential in found}
        return Response({"credentials": told}, headers={"Cache-Control": "no-store"})


class ListView(GenericAPIView[Any]):
    """Jobs."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = JobSerializer
    pagination_class = None

    @extend_schema(operation_id="queue_list", parameters=[JobsQuery], responses=JobsSerializer)
    def get(self, request: Request) -> Response:
        """Jobs, in the order in which they are leased."""
        asked = asked_of(JobsQuery, request)
        limit = asked.pop("limit")
        return Response({"status": "ok", "items": self.get_serializer(query_jobs(**asked)[:limit], many=True).data})


class SizeView(GenericAPIView[Any]):
    """How many jobs."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = CountSerializer

    @extend_schema(operation_id="queue_size", parameters=[SizeQuery])
    def get(self, request: Request) -> Response:
        """How many jobs have a status; `queued` when none is asked for."""
        return Response({"status": "ok", "count": count_jobs(**asked_of(SizeQuery, request))})


class ReapView(GenericAPIView[Any]):
    """Expired leases."""

    needs: ClassVar = {"POST": REPAIR}
    serializer_class = ReclaimedSerializer

    @extend_schema(operation_id="queue_reap_expired", request=None)
    def post(self, request: Request) -> Response:
        """Take back leases that have run out; the reconciler does the same every half second."""
        return Response({"reclaimed": reap_expired(MAX_REAPED)})
