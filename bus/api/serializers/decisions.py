"""The bodies of requests about decisions."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ...services.decision_requests import LONGEST, LONGEST_ACTION, LONGEST_KEY, LONGEST_TITLE, SHORTEST
from ...services.decision_rows import STATE_AT_EXPIRY, STATE_OF
from ...services.decisions import LONGEST_COMMENT
from .base import NumberField, ObjectField, StrictSerializer, TextField


@extend_schema_field({"oneOf": [{"const": answer} for answer in STATE_OF]})
class AnswerField(serializers.ChoiceField):
    """One of the answers. Two fields have it, for which drf-spectacular would make two components with a warning."""


class DecisionToRequest(StrictSerializer):
    """A question to people: may you do this action with these arguments?"""

    key = TextField(max_length=LONGEST_KEY, help_text="Your own name of the question.")
    title = TextField(max_length=LONGEST_TITLE, help_text="The question in one line, for people.")
    action = TextField(max_length=LONGEST_ACTION, help_text="The action that you want to do, such as a tool.")
    args = ObjectField(required=False, help_text="The arguments of the action: an object.")
    allow = serializers.ListField(
        child=AnswerField(choices=list(STATE_OF)),
        required=False,
        min_length=1,
        max_length=len(STATE_OF),
        help_text="The answers that people may give. The default is approve and reject.",
    )
    schema = ObjectField(required=False, allow_null=True, help_text="JSON Schema of the arguments that a person edits.")
    expires = NumberField(
        required=False,
        min_value=SHORTEST,
        max_value=LONGEST,
        help_text="Seconds until nobody may decide any more. The default is 3600.",
    )
    on_expiry = serializers.ChoiceField(
        choices=list(STATE_AT_EXPIRY),
        required=False,
        help_text="The meaning of that end: a no (the default), a yes, or the state `expired`.",
    )


class DecisionToMake(StrictSerializer):
    """Your answer."""

    answer = AnswerField(choices=list(STATE_OF))
    args = ObjectField(required=False, allow_null=True, help_text="With `edit`: the arguments as you want them.")
    comment = TextField(
        required=False,
        allow_blank=True,
        max_length=LONGEST_COMMENT,
        help_text="Your words. With `respond` they are the answer.",
    )
