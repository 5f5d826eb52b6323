"""Fields that every part of the worker protocol uses."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from executors.sandbox.sanitise import OutputInvalid, sanitise


class IdField(serializers.CharField):
    """A 64-bit id: digits, as text or as a number; an `int` inside."""

    default_error_messages = {"not_an_id": "this is no id"}  # as DRF declares it

    def to_internal_value(self, data: Any) -> Any:
        """The id as a number."""
        text = super().to_internal_value(data)
        if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) < 2**63):
            self.fail("not_an_id")
        return int(text)


class ResultField(serializers.JSONField):
    """A result as it was sent: what cannot be stored is the step's failure, not the request's (rule R12)."""

    def to_internal_value(self, data: Any) -> Any:
        """The value."""
        return data


def storable(value: Any) -> Any:
    """The value as plain JSON that Postgres can store. Raises: `ValidationError`."""
    try:
        return sanitise(value)
    except OutputInvalid as error:
        raise serializers.ValidationError(str(error), code=error.code) from None


class StorableField(serializers.JSONField):
    """JSON that Postgres can store: no NUL, no half surrogates, no infinite number, bounded depth."""

    def to_internal_value(self, data: Any) -> Any:
        """The value as plain JSON."""
        return storable(data)


class StorableMapField(StorableField):
    """A map of such JSON."""

    def to_internal_value(self, data: Any) -> Any:
        """The map."""
        value = super().to_internal_value(data)
        if not isinstance(value, dict):
            raise serializers.ValidationError("give a map")
        return value
