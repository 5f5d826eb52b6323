"""The views of who is running: worker pools, servers, brokers."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from executors.models import Runtime
from executors.rest_api.requests import asked_of, principal_of, valid
from executors.rest_api.serializers import (
    ComponentSerializer,
    NamedSerializer,
    NameSerializer,
    PoolHeartbeatSerializer,
    PoolNameSerializer,
    PoolSerializer,
    RegisteredComponentSerializer,
    RegisteredPoolSerializer,
    RuntimesQuery,
    RuntimesSerializer,
)
from executors.worker import presence

ANNOUNCE_POOL: Final = "executors.announce_pool"
ANNOUNCE_SERVER: Final = "executors.announce_server"
VIEW: Final = "executors.view_runtime"
POOL: Final = Runtime.ComponentType.WORKER_POOL


def _register(request: Request, given: dict[str, Any]) -> Runtime:
    component = presence.Component(
        name=given["name"],
        component_type=given["component_type"],
        base_url=given["base_url"],
        capacity=given["capacity"],
        runtime_type=given["runtime"] or "",
        status=given["status"],
        labels=given["labels"] or {},
        process={"pid": given.get("pid"), "hostname": given.get("hostname"), "meta": given["meta"]},
        principal=principal_of(request),
    )
    return presence.record(component)


class RegisterPoolView(GenericAPIView[Any]):
    """Worker pools say that they are there."""

    needs: ClassVar = {"POST": ANNOUNCE_POOL}
    serializer_class = PoolSerializer

    @extend_schema(operation_id="worker_pool_register", responses=RegisteredPoolSerializer)
    def post(self, request: Request) -> Response:
        """Register a worker pool, or renew what is known of it."""
        row = _register(request, valid(self, request))
        told = {"status": "ok", "name": row.name, "runtime": row.runtime["type"], "runtime_id": str(row.runtime_id)}
        return Response(told)


class RegisterView(GenericAPIView[Any]):
    """Components say that they are there."""

    needs: ClassVar = {"POST": ANNOUNCE_SERVER}
    serializer_class = ComponentSerializer

    @extend_schema(operation_id="runtime_register", responses=RegisteredComponentSerializer)
    def post(self, request: Request) -> Response:
        """Register a component, or renew what is known of it."""
        row = _register(request, valid(self, request))
        told = {"status": "ok", "name": row.name, "component_type": row.component_type}
        return Response({**told, "runtime_id": str(row.runtime_id)})


class HeartbeatPoolView(GenericAPIView[Any]):
    """Worker pools are still there."""

    needs: ClassVar = {"POST": ANNOUNCE_POOL}
    serializer_class = PoolHeartbeatSerializer

    @extend_schema(operation_id="worker_pool_heartbeat", responses=NamedSerializer)
    def post(self, request: Request) -> Response:
        """A worker pool's heartbeat; `unknown` asks it to register."""
        name = valid(self, request).get("name") or settings.NOETL_WORKER_POOL_NAME or None
        known = name is None or presence.beat(POOL, name, principal_of(request))
        return Response({"status": "ok" if known else "unknown", "name": name})


class HeartbeatView(GenericAPIView[Any]):
    """Components are still there."""

    needs: ClassVar = {"POST": ANNOUNCE_SERVER}
    serializer_class = NameSerializer

    @extend_schema(operation_id="runtime_heartbeat", responses=NamedSerializer)
    def post(self, request: Request) -> Response:
        """A component's heartbeat; `unknown` asks it to register."""
        given = valid(self, request)
        known = presence.beat(given["component_type"], given["name"], principal_of(request))
        return Response({"status": "ok" if known else "unknown", "name": given["name"]})


def _deregister(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    presence.say_goodbye(presence.Component(given["name"], given["component_type"], principal=principal_of(request)))
    return {"status": "ok", "name": given["name"]}


class DeregisterPoolView(GenericAPIView[Any]):
    """Worker pools say goodbye."""

    needs: ClassVar = {"POST": ANNOUNCE_POOL, "DELETE": ANNOUNCE_POOL}
    serializer_class = PoolNameSerializer

    @extend_schema(operation_id="worker_pool_deregister", responses=NamedSerializer)
    def post(self, request: Request) -> Response:
        """Mark a worker pool offline."""
        return Response(_deregister(request, valid(self, request)))

    @extend_schema(operation_id="worker_pool_delete", request=PoolNameSerializer, responses=NamedSerializer)
    def delete(self, request: Request) -> Response:
        """The same as POST."""
        return self.post(request)


class DeregisterView(GenericAPIView[Any]):
    """Components say goodbye."""

    needs: ClassVar = {"POST": ANNOUNCE_SERVER, "DELETE": ANNOUNCE_SERVER}
    serializer_class = NameSerializer

    @extend_schema(operation_id="runtime_deregister", responses=NamedSerializer)
    def post(self, request: Request) -> Response:
        """Mark a component offline."""
        given = valid(self, request)
        return Response({**_deregister(request, given), "component_type": given["component_type"]})

    @extend_schema(operation_id="runtime_delete", request=NameSerializer, responses=NamedSerializer)
    def delete(self, request: Request) -> Response:
        """The same as POST."""
        return self.post(request)


def _list(request: Request, component_type: str | None) -> Response:
    asked = asked_of(RuntimesQuery, request)
    status, kind = asked.get("status"), asked.get("runtime")
    rows = presence.query_components(component_type, status, kind)
    told = RuntimesSerializer({"items": rows, "runtime": kind, "status": status, "count": len(rows)})
    return Response(told.data)


class PoolsView(GenericAPIView[Any]):
    """Worker pools."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = RuntimesSerializer

    @extend_schema(operation_id="worker_pools", parameters=[RuntimesQuery])
    def get(self, request: Request) -> Response:
        """Worker pools, by name."""
        return _list(request, POOL)


class RuntimesView(GenericAPIView[Any]):
    """Components."""

    needs: ClassVar = {"GET": VIEW}
    serializer_class = RuntimesSerializer

    @extend_schema(operation_id="runtimes", parameters=[RuntimesQuery])
    def get(self, request: Request) -> Response:
        """Every component that has announced itself, by type and name."""
        return _list(request, None)
