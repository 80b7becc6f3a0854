"""The bodies of requests about leased work."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ...services.work import LONGEST_DELAY
from ...services.work_operations import LONGEST_ERROR
from .base import StrictSerializer, TextField, WholeField

#: Jobs that one request gets at most, and claims that it may name.
MOST_JOBS, MOST_KNOWN = 100, 1000


class NumberField(serializers.FloatField):
    """A JSON number."""

    def to_internal_value(self, data: Any) -> float:
        """The number. Refuses a text with digits, and a boolean."""
        if isinstance(data, (bool, str)):
            self.fail("invalid")
        number: float = super().to_internal_value(data)
        return number


class ClaimRequest(StrictSerializer):
    """How many jobs you want."""

    max = WholeField(
        min_value=1, max_value=MOST_JOBS, required=False, help_text="Maximum number of jobs. The default is 1."
    )
    have = serializers.ListField(
        child=TextField(max_length=64),
        required=False,
        max_length=MOST_KNOWN,
        help_text="After a lost answer: the claims that you know. Others of yours in this channel are answered again.",
    )


class Nothing(StrictSerializer):
    """An empty object, or no body."""


class WorkResult(StrictSerializer):
    """The result of a job."""

    result = serializers.JSONField(
        required=False, allow_null=True, help_text="Any JSON. It is the reply where somebody asked with the job."
    )


class WorkError(StrictSerializer):
    """Why you do not do the job."""

    error = TextField(max_length=LONGEST_ERROR, required=False, allow_null=True, allow_blank=True)


class WorkReturn(WorkError):
    """Why you give the job back, and when another worker may get it."""

    delay = NumberField(
        min_value=0, max_value=LONGEST_DELAY, required=False, help_text="Seconds until then. The default is 0."
    )
