"""What the OpenAPI document tells of every operation beside what its view says."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from noetl_site.access.authentication import BearerToken


class ProblemFieldSerializer(serializers.Serializer[Any]):
    """One thing wrong with what was sent."""

    pointer = serializers.CharField(help_text="JSON pointer into what was sent.")
    code = serializers.CharField()
    detail = serializers.CharField()
    line = serializers.IntegerField(required=False, help_text="Of a playbook's text, from 1.")
    column = serializers.IntegerField(required=False, help_text="Of a playbook's text, from 1.")


class ProblemSerializer(serializers.Serializer[Any]):
    """Why a request was not answered as asked (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable; for programs.")
    detail = serializers.CharField(help_text="For people.")
    errors = ProblemFieldSerializer(many=True, required=False)


class BearerTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its metaclass has no types
    """How the OpenAPI document tells of tokens."""

    target_class = BearerToken
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """An HTTP bearer scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "noetl_<64 hexadecimal digits>"}


class ProblemSchema(AutoSchema):
    """Every operation may end in a problem document."""

    def get_summary(self) -> str | None:
        """The first line of the view's own description."""
        first: str = self.get_description().partition("\n")[0]
        return first.rstrip(".") or None

    def get_response_serializers(self) -> Any:
        """What the view says, and the default."""
        told = super().get_response_serializers()
        responses = told if isinstance(told, dict) else {200: told}
        return {**responses, ("default", "application/problem+json"): ProblemSerializer}
