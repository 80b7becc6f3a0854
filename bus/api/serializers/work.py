"""The bodies of requests about leased work."""

from __future__ import annotations

from rest_framework import serializers

from ...services.work import LONGEST_DELAY
from ...services.work_operations import LONGEST_ERROR, LONGEST_TOKEN, MOST_JOBS, MOST_KNOWN
from .base import NumberField, StrictSerializer, TextField, WholeField


class ClaimRequest(StrictSerializer):
    """How many jobs you want."""

    max = WholeField(
        min_value=1, max_value=MOST_JOBS, required=False, help_text="Maximum number of jobs. The default is 1."
    )
    have = serializers.ListField(
        child=TextField(max_length=LONGEST_TOKEN),
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
