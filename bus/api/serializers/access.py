"""The bodies of requests about access tokens and grants."""

from __future__ import annotations

from rest_framework import serializers

from ...auth.permissions import ACTIONS
from ...models import Grant
from .base import FlagField, StrictSerializer, TextField


class NewToken(StrictSerializer):
    """The new token, which belongs to the caller."""

    name = TextField(max_length=100, help_text="Purpose of the token, such as the name of a program.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=ACTIONS),
        required=False,
        max_length=len(ACTIONS),
        help_text="Allowed actions; empty: all actions that you may do.",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Expiry; null: never.")


class GrantChanges(StrictSerializer):
    """The changes to a grant."""

    subject = serializers.ChoiceField(choices=Grant.Subject.choices, required=False)
    subject_name = TextField(
        max_length=150, required=False, allow_blank=True, help_text="Name of the user, group, token or client type."
    )
    action = serializers.ChoiceField(choices=Grant.Action.choices, required=False)
    pattern = TextField(max_length=130, required=False, help_text="room:channel with * for any text, such as science:*")
    allow = FlagField(required=False, help_text="false: a ban, which overrides grants that allow.")


class NewGrant(GrantChanges):
    """The new grant."""

    subject = serializers.ChoiceField(choices=Grant.Subject.choices)
    action = serializers.ChoiceField(choices=Grant.Action.choices)
    pattern = TextField(max_length=130, help_text="room:channel with * for any text, such as science:*")
