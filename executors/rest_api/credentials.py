"""The views of stored credentials. Their data is written here, and never read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from executors import services
from executors.credentials import store
from executors.errors import CredentialDataIsWriteOnly
from executors.rest_api.fields import StorableMapField, storable
from executors.rest_api.requests import asked_of, valid

VIEW: Final = "executors.view_credential"
CHANGE: Final = "executors.change_credential"
DELETE: Final = "executors.delete_credential"
MAX_NAME: Final = 200


class TextsField(serializers.ListField):
    """A list of texts; one text is split at its commas, as in the original."""

    child = serializers.CharField(max_length=500)

    def to_internal_value(self, data: Any) -> Any:
        """The texts."""
        if isinstance(data, str):
            data = [part.strip() for part in data.split(",") if part.strip()]
        return storable(super().to_internal_value(data))


class DataField(serializers.JSONField):
    """A credential's data; what is wrong with it is told without a word of it."""

    def to_internal_value(self, data: Any) -> Any:
        """The map."""
        if not isinstance(data, dict) or not data:
            raise serializers.ValidationError("give a map of the credential's fields")
        return storable(data)


class ChangeSerializer(serializers.Serializer[Any]):
    """What is to be changed of a credential; `data` is replaced as a whole and never shown again."""

    type = serializers.CharField(required=False, max_length=100)
    data = DataField(required=False, write_only=True)
    meta = StorableMapField(required=False, help_text="`test_url`: where a test shows it.")
    tags = TextsField(required=False, max_length=100)
    description = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    scopes = TextsField(
        required=False, max_length=store.MAX_SCOPES, help_text="Patterns of the paths of playbooks that may use it."
    )


class NewSerializer(ChangeSerializer):
    """A credential to store; one of the same name is replaced."""

    name = serializers.CharField(max_length=MAX_NAME)
    type = serializers.CharField(default="generic", max_length=100)
    data = DataField(write_only=True)


class CredentialSerializer(serializers.Serializer[Any]):
    """A credential without its data."""

    id = serializers.CharField()
    name = serializers.CharField()
    type = serializers.CharField()
    meta = serializers.JSONField()
    tags = serializers.ListField(child=serializers.CharField())
    description = serializers.CharField(allow_blank=True)
    scopes = serializers.ListField(child=serializers.CharField())
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To a minute.")
    last_used_by = serializers.CharField(allow_null=True, help_text="An execution's id.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class StoredSerializer(CredentialSerializer):
    """The credential as it is now, and what is to be said of it."""

    warnings = serializers.ListField(child=serializers.CharField())


class FilterSerializer(serializers.Serializer[Any]):
    """What they were chosen by."""

    type = serializers.CharField(allow_null=True)
    q = serializers.CharField(allow_null=True)


class CredentialsSerializer(serializers.Serializer[Any]):
    """Credentials by name."""

    items = CredentialSerializer(many=True)
    filter = FilterSerializer()


class CredentialsQuery(serializers.Serializer[Any]):
    """Which credentials."""

    ctype = serializers.CharField(required=False, help_text="Of this type.")
    q = serializers.CharField(required=False, help_text="A part of the name or the description, in any case.")


class TrySerializer(serializers.Serializer[Any]):
    """Where to show one that is a header of HTTP."""

    url = serializers.URLField(required=False, max_length=2000)


class TrialSerializer(serializers.Serializer[Any]):
    """`status` is ok, failed or untested."""

    status = serializers.CharField()
    message = serializers.CharField()


def _stored(found: store.CredentialSummary) -> dict[str, Any]:
    unknown = f"no type is called {found.type!r}: the fields were not checked"
    told = asdict(found)
    return StoredSerializer({**told, "warnings": [] if services.is_known_type(found.type) else [unknown]}).data


class CredentialsView(GenericAPIView[Any]):
    """Credentials."""

    needs: ClassVar = {"GET": VIEW, "POST": CHANGE}
    serializer_class = NewSerializer
    pagination_class = None

    @extend_schema(operation_id="credentials_list", parameters=[CredentialsQuery], responses=CredentialsSerializer)
    def get(self, request: Request) -> Response:
        """Credentials by name, never with their data."""
        asked = asked_of(CredentialsQuery, request)
        type_, text = asked.get("ctype"), asked.get("q")
        found = [asdict(one) for one in store.list_credentials(type_, text)]
        told = CredentialsSerializer({"items": found, "filter": {"type": type_, "q": text}})
        return Response(told.data)

    @extend_schema(operation_id="credential_store", responses=StoredSerializer)
    def post(self, request: Request) -> Response:
        """Store a credential, or replace all of the one of this name."""
        given = valid(self, request)
        name, type_, data = given.pop("name"), given.pop("type"), given.pop("data")
        return Response(_stored(services.save_credential(name, type_, data, **given)))


class CredentialView(GenericAPIView[Any]):
    """One credential."""

    needs: ClassVar = {"GET": VIEW, "PATCH": CHANGE, "DELETE": DELETE}
    serializer_class = ChangeSerializer

    @extend_schema(
        operation_id="credential_read",
        parameters=[OpenApiParameter("include_data", bool, description="Refused: data is never given.")],
        responses=CredentialSerializer,
    )
    def get(self, request: Request, reference: str) -> Response:
        """One credential by its id or its name, never with its data."""
        if request.query_params.get("include_data", "").lower() in ("1", "true", "yes", "on"):
            raise CredentialDataIsWriteOnly
        return Response(CredentialSerializer(asdict(store.find_credential(reference))).data)

    @extend_schema(operation_id="credential_change", responses=StoredSerializer)
    def patch(self, request: Request, reference: str) -> Response:
        """Change some of a credential; what is not named stays."""
        return Response(_stored(services.change_credential(reference, valid(self, request))))

    @extend_schema(operation_id="credential_delete", responses={204: None})
    def delete(self, request: Request, reference: str) -> Response:
        """Delete a credential."""
        store.delete_credential(reference)
        return Response(status=status.HTTP_204_NO_CONTENT)


class TryView(GenericAPIView[Any]):
    """Whether a credential works."""

    needs: ClassVar = {"POST": CHANGE}
    serializer_class = TrySerializer

    @extend_schema(operation_id="credential_test", responses=TrialSerializer)
    def post(self, request: Request, reference: str) -> Response:
        """Connect with a credential, by its type. What is told of a failure shows no secret."""
        given = valid(self, request)
        return Response(TrialSerializer(services.try_stored(reference, given.get("url"))).data)
