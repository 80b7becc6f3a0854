"""Access tokens, connection tickets and grants."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ...auth.permissions import ACTIONS
from ...models import Grant
from .base import FlagField, Page, StrictSerializer, TextField


class Token(serializers.Serializer[Any]):
    """An access token, without its secret."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The beginning of the secret, to tell tokens apart.")
    user = serializers.CharField(allow_null=True, help_text="The Django user that it acts for.")
    admin = serializers.BooleanField()
    scopes = serializers.ListField(child=serializers.CharField(), help_text="Empty: all that its bearer may do.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class TokenWithSecret(Token):
    """A new access token; the secret is shown this once."""

    secret = serializers.CharField()


class Ticket(serializers.Serializer[Any]):
    """A connection ticket."""

    ticket = serializers.CharField(
        help_text="For one socket: sub-protocol `ticket.<ticket>`, `ticket` of the first frame or URL."
    )
    expires_at = serializers.DateTimeField(help_text="Until when it opens one.")


class TokenList(Page):
    """A page of access tokens."""

    results = Token(many=True)


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


class GrantRow(serializers.Serializer[Any]):
    """A rule."""

    id = serializers.IntegerField()
    subject = serializers.ChoiceField(choices=Grant.Subject.choices)
    subject_name = serializers.CharField(allow_blank=True)
    action = serializers.ChoiceField(choices=Grant.Action.choices)
    pattern = serializers.CharField()
    allow = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField(allow_blank=True)


class GrantList(Page):
    """A page of rules."""

    results = GrantRow(many=True)


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
