"""Access tokens, connection tickets and grants."""

from __future__ import annotations

from rest_framework import serializers

from ...auth.permissions import ACTIONS
from ...models import Grant
from .base import FlagField, StrictSerializer, TextField


class NewToken(StrictSerializer):
    """A token to be made, for the caller."""

    name = TextField(max_length=100, help_text="To tell it apart, such as the program that will have it.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=ACTIONS),
        required=False,
        max_length=len(ACTIONS),
        help_text="Actions that it is good for; none: all that you may do.",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="When it ends; null: never.")


class GrantChanges(StrictSerializer):
    """What is to be changed of a rule."""

    subject = serializers.ChoiceField(choices=Grant.Subject.choices, required=False)
    subject_name = TextField(
        max_length=150, required=False, allow_blank=True, help_text="Name of the user, group, token or client type."
    )
    action = serializers.ChoiceField(choices=Grant.Action.choices, required=False)
    pattern = TextField(max_length=130, required=False, help_text="room:channel with * for any text, such as science:*")
    allow = FlagField(required=False, help_text="false: a ban, which wins over what allows.")


class NewGrant(GrantChanges):
    """A rule to be made."""

    subject = serializers.ChoiceField(choices=Grant.Subject.choices)
    action = serializers.ChoiceField(choices=Grant.Action.choices)
    pattern = TextField(max_length=130, help_text="room:channel with * for any text, such as science:*")
