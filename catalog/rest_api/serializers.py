"""The JSON of the catalog's endpoints, in NoETL's shapes (docs/api.md)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from catalog.models import PlaybookVersion

RESOURCE_TYPE = "Playbook"


class EntriesQuery(serializers.Serializer[Any]):
    """Which versions."""

    resource_type = serializers.CharField(default=RESOURCE_TYPE)
    path = serializers.CharField(default="", help_text="Of one playbook.")


class PlaybookQuery(serializers.Serializer[Any]):
    """Which playbook."""

    playbook_id = serializers.CharField(help_text="PATH or PATH:VERSION")


class ContentSerializer(serializers.Serializer[Any]):
    """A playbook's text."""

    content = serializers.CharField(trim_whitespace=False, help_text="The YAML.")


class RegisterSerializer(serializers.Serializer[Any]):
    """A playbook to register, as text or as base64 of it."""

    content = serializers.CharField(required=False, trim_whitespace=False, help_text="The YAML.")
    content_base64 = serializers.CharField(required=False, help_text="The YAML's UTF-8 bytes in base64.")
    resource_type = serializers.CharField(required=False, default=RESOURCE_TYPE)

    def validate_resource_type(self, value: str) -> str:
        """Only playbooks are registered."""
        if value.lower() not in ("playbook", "playbooks"):
            raise serializers.ValidationError("only resources of the type Playbook can be registered")
        return RESOURCE_TYPE

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Exactly one of the two, decoded to `content`."""
        if ("content" in attrs) is ("content_base64" in attrs):
            raise serializers.ValidationError("give either content or content_base64")
        if (encoded := attrs.get("content_base64")) is not None:
            try:
                attrs["content"] = base64.b64decode("".join(encoded.split()), validate=True).decode()
            except (binascii.Error, ValueError):
                raise serializers.ValidationError({"content_base64": "this is no base64 of UTF-8 text"}) from None
        return attrs


class PlaybookProblemSerializer(serializers.Serializer[Any]):
    """One thing noticed about a playbook's text."""

    code = serializers.CharField()
    message = serializers.CharField()
    pointer = serializers.CharField(help_text="JSON pointer into the document.")
    line = serializers.IntegerField()
    column = serializers.IntegerField()
    severity = serializers.ChoiceField(["error", "warning"])


class RegisteredSerializer(serializers.Serializer[Any]):
    """What came of registering."""

    status = serializers.CharField(help_text="`success`; failures are problem documents.")
    message = serializers.CharField()
    resource_path = serializers.CharField()
    resource_version = serializers.CharField()
    resource_type = serializers.CharField()
    created = serializers.BooleanField(help_text="False: the newest version already was this text.")
    warnings = PlaybookProblemSerializer(many=True)


class ValidatedSerializer(serializers.Serializer[Any]):
    """Every problem of a text; warnings alone leave it valid."""

    valid = serializers.BooleanField()
    errors = PlaybookProblemSerializer(many=True)


class EntrySerializer(serializers.Serializer[PlaybookVersion]):
    """One version of a playbook."""

    id = serializers.CharField()
    resource_path = serializers.CharField(source="path")
    resource_type = serializers.SerializerMethodField()
    resource_version = serializers.CharField(source="version")
    content = serializers.CharField()
    payload = serializers.JSONField(help_text="The normalised playbook.")
    meta = serializers.SerializerMethodField()
    timestamp = serializers.DateTimeField(source="created_at")

    def get_resource_type(self, version: PlaybookVersion) -> str:
        """Always a playbook."""
        return RESOURCE_TYPE

    @extend_schema_field(serializers.DictField())
    def get_meta(self, version: PlaybookVersion) -> dict[str, Any]:
        """What is known beside the text."""
        known = {"content_hash": version.content_hash, "registered_by": version.created_by}
        return {**version.meta, **known, "warnings": version.warnings}


class SummarySerializer(serializers.Serializer[PlaybookVersion]):
    """A playbook by its newest version; `id` is its path."""

    id = serializers.CharField(source="path")
    name = serializers.SerializerMethodField()
    resource_type = serializers.SerializerMethodField()
    resource_version = serializers.CharField(source="version")
    version = serializers.CharField()
    meta = serializers.JSONField()
    timestamp = serializers.DateTimeField(source="created_at")
    description = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField(source="created_at", help_text="Versions never change.")
    status = serializers.SerializerMethodField()
    tasks_count = serializers.SerializerMethodField()

    def get_name(self, version: PlaybookVersion) -> str:
        """The playbook's name."""
        return str(version.payload["name"])

    def get_resource_type(self, version: PlaybookVersion) -> str:
        """Always a playbook."""
        return RESOURCE_TYPE

    def get_description(self, version: PlaybookVersion) -> str:
        """The playbook's description."""
        return str(version.payload["description"])

    def get_status(self, version: PlaybookVersion) -> str:
        """What is registered can be run."""
        return "active"

    def get_tasks_count(self, version: PlaybookVersion) -> int:
        """How many steps it has."""
        return len(version.payload["steps"])
