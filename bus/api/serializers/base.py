"""What the shapes share: strict bodies, JSON objects, pages, errors."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ...protocol.values import holds_nul


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses keys that it does not know, so that a misspelt one is not lost."""

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
    """A JSON text, without the blanks around it."""

    def to_internal_value(self, data: Any) -> str:
        """The text; a number or an array is none, and what is too long is that with its blanks."""
        if not isinstance(data, str):
            self.fail("invalid")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        text: str = super().to_internal_value(data)
        return text


class FlagField(serializers.BooleanField):
    """true or false, and none of the words and numbers that forms have for them."""

    def to_internal_value(self, data: Any) -> bool:
        """The flag."""
        if not isinstance(data, bool):
            raise serializers.ValidationError("This must be true or false.")
        return data


class WholeField(serializers.IntegerField):
    """A whole JSON number."""

    def to_internal_value(self, data: Any) -> int:
        """The number; a text with digits is none."""
        if isinstance(data, (bool, str)):
            self.fail("invalid")
        number: int = super().to_internal_value(data)
        return number


@extend_schema_field({"type": "object", "additionalProperties": True})
class ObjectField(serializers.JSONField):
    """A JSON object."""

    def to_internal_value(self, data: Any) -> Any:
        """The object. Text in it may not hold NUL, which databases do not keep."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object.")
        if holds_nul(data):
            raise serializers.ValidationError("NUL characters are not allowed.")
        return data
