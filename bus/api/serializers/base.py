"""Common parts of the serializers: strict bodies, and strict JSON fields."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ...protocol.values import holds_nul


class StrictSerializer(serializers.Serializer[Any]):
    """A body that refuses unknown keys, so that callers notice a misspelt key."""

    def to_internal_value(self, data: Any) -> Any:
        """The values, with a fault for each unknown key."""
        faults = {}
        if isinstance(data, dict):
            faults = {
                key: ["There is no such field. The fields are " + ", ".join(self.fields) + "."]
                for key in data
                if key not in self.fields
            }
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as problem:
            detail = problem.detail if isinstance(problem.detail, dict) else {"non_field_errors": problem.detail}
            raise serializers.ValidationError({**detail, **faults}) from None
        if faults:
            raise serializers.ValidationError(faults)
        return value


class TextField(serializers.CharField):
    """A JSON text. Spaces around it are removed."""

    def to_internal_value(self, data: Any) -> str:
        """The text. Refuses other types, and checks the length before removing spaces."""
        if not isinstance(data, str):
            self.fail("invalid")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        text: str = super().to_internal_value(data)
        return text


class FlagField(serializers.BooleanField):
    """A JSON boolean. Other spellings, as in forms, are refused."""

    def to_internal_value(self, data: Any) -> bool:
        """The flag."""
        if not isinstance(data, bool):
            raise serializers.ValidationError("This must be true or false.")
        return data


class WholeField(serializers.IntegerField):
    """A JSON integer."""

    def to_internal_value(self, data: Any) -> int:
        """The number. Refuses a text with digits."""
        if isinstance(data, (bool, str)):
            self.fail("invalid")
        number: int = super().to_internal_value(data)
        return number


class NumberField(serializers.FloatField):
    """A JSON number."""

    def to_internal_value(self, data: Any) -> float:
        """The number. Refuses a text with digits, and a boolean."""
        if isinstance(data, (bool, str)):
            self.fail("invalid")
        number: float = super().to_internal_value(data)
        return number


@extend_schema_field({"type": "object", "additionalProperties": True})
class ObjectField(serializers.JSONField):
    """A JSON object."""

    def to_internal_value(self, data: Any) -> Any:
        """The object. Refuses NUL in its texts, because databases do not store it."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object.")
        if holds_nul(data):
            raise serializers.ValidationError("NUL characters are not allowed.")
        return data
