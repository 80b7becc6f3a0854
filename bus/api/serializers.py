"""The shapes of requests and answers. Requests are checked with them; answers are made by the services and described here."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ..models import Grant
from ..permissions import ACTIONS

LARGEST = 2**31 - 1


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses keys that it does not know, so that a misspelt one is not lost."""

    def to_internal_value(self, data: Any) -> Any:
        """The values, with a fault for each unknown key."""
        faults = {}
        if isinstance(data, dict):
            faults = {
                key: ["There is no such field; there are " + ", ".join(self.fields) + "."]
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


@extend_schema_field({"type": "object", "additionalProperties": True})
class ObjectField(serializers.JSONField):
    """A JSON object."""

    def to_internal_value(self, data: Any) -> Any:
        """The object. Text in it may not hold NUL, which databases do not keep."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("It is an object.")
        if "\\u0000" in _spelt(data):
            raise serializers.ValidationError("Null characters are not allowed.")
        return data


def _spelt(value: Any) -> str:
    import json

    return json.dumps(value).replace("\\\\", "")


# --- errors -----------------------------------------------------------------------------------------------------------


class ErrorObject(serializers.Serializer[Any]):
    """What went wrong: the same codes as on the socket."""

    code = serializers.CharField(help_text="A stable word for the kind of error, such as CHANNEL_NOT_FOUND.")
    number = serializers.IntegerField(help_text="The HTTP status.")
    message = serializers.CharField(help_text="What went wrong, and what to do.")
    details = serializers.ListField(child=serializers.DictField(), help_text="Every fault, or what it is about.")
    retry_after = serializers.FloatField(required=False, help_text="Seconds until it is worth another try.")


class ErrorAnswer(serializers.Serializer[Any]):
    """The answer of every request that fails."""

    error = ErrorObject()


# --- rooms and channels -------------------------------------------------------------------------------------------------


class Room(serializers.Serializer[Any]):
    """A room, as the caller sees it."""

    room = serializers.CharField(help_text="Its name.")
    description = serializers.CharField(allow_blank=True)
    private = serializers.BooleanField(help_text="Invisible to those without a grant.")
    presence = serializers.BooleanField(
        allow_null=True, help_text="Whether joins and leaves are announced; null: as the setting says."
    )
    hardcoded = serializers.BooleanField(help_text="Built in; it stays.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    channels = serializers.IntegerField(help_text="Channels that the caller may know of.")
    participants = serializers.IntegerField(help_text="Connected clients in any of its channels.")


class RoomList(serializers.Serializer[Any]):
    """A page of rooms."""

    results = Room(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null: this is the last.")


class NewRoom(StrictSerializer):
    """A room to be made."""

    room = serializers.CharField(max_length=64, help_text="1 to 64 of letters, digits and _ - . /")
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    private = serializers.BooleanField(required=False, help_text="Invisible to those without a grant.")
    presence = serializers.BooleanField(required=False, allow_null=True)


class RoomChanges(StrictSerializer):
    """What is to be changed of a room."""

    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    private = serializers.BooleanField(required=False)
    presence = serializers.BooleanField(required=False, allow_null=True)


class Retention(StrictSerializer):
    """How much of a channel's history is kept; null: as the server's setting says, 0: all."""

    count = serializers.IntegerField(min_value=0, max_value=LARGEST, required=False, allow_null=True)
    age = serializers.IntegerField(
        min_value=0, max_value=LARGEST, required=False, allow_null=True, help_text="Seconds."
    )


class Channel(serializers.Serializer[Any]):
    """A row of the list of channels."""

    room = serializers.CharField()
    channel = serializers.CharField()
    participants = serializers.IntegerField(help_text="Connected members.")
    description = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    type = serializers.CharField()
    hardcoded = serializers.BooleanField(help_text="Built in; it stays.")
    ephemeral = serializers.BooleanField(help_text="Messages are delivered but not kept.")
    messages = serializers.IntegerField(help_text="Messages ever: the head of its log.")
    last_activity = serializers.DateTimeField()


class ChannelList(serializers.Serializer[Any]):
    """A page of channels."""

    results = Channel(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null: this is the last.")


class ChannelMetadata(serializers.Serializer[Any]):
    """What is known of a channel; keys of one's own are added to it."""

    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    type = serializers.CharField()
    hardcoded = serializers.BooleanField()
    description = serializers.CharField(allow_blank=True)
    ephemeral = serializers.BooleanField()
    retention = Retention()


class Participant(serializers.Serializer[Any]):
    """A member of a channel."""

    client_id = serializers.CharField()
    client_type = serializers.CharField()
    screen_name = serializers.CharField(allow_null=True)
    avatar = serializers.CharField(allow_null=True)
    joined_at = serializers.DateTimeField()
    last_activity = serializers.DateTimeField(allow_null=True)


class ChannelInfo(serializers.Serializer[Any]):
    """A channel with its members (for those who may see who is there) and the head of its log."""

    room = serializers.CharField()
    channel = serializers.CharField()
    participants = Participant(many=True, help_text="At most 1000 of them.")
    participant_count = serializers.IntegerField()
    metadata = ChannelMetadata()
    epoch = serializers.CharField(help_text="Changes only if the log was lost or rebuilt.")
    seq = serializers.IntegerField(help_text="The head: the seq of the newest message.")


class ChannelChanges(StrictSerializer):
    """What is to be changed of a channel."""

    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    metadata = ObjectField(required=False, help_text="Values of your own.")
    type = serializers.CharField(max_length=32, required=False, help_text="A word of your own for the kind of channel.")
    ephemeral = serializers.BooleanField(required=False, help_text="Deliver without keeping: no seq, no history.")
    retention = Retention(required=False, help_text="How much is kept.")


class NewChannel(ChannelChanges):
    """A channel to be made; its room is made too if it is missing."""

    room = serializers.CharField(max_length=64, help_text="1 to 64 of letters, digits and _ - . /")
    channel = serializers.CharField(max_length=64, help_text="1 to 64 of letters, digits and _ - . /")


# --- messages -----------------------------------------------------------------------------------------------------------


class Message(serializers.Serializer[Any]):
    """A message as it was delivered; `message`, `metadata` and `client_timestamp` are there when the sender gave them."""

    version = serializers.CharField()
    id = serializers.CharField()
    type = serializers.CharField()
    room = serializers.CharField()
    channel = serializers.CharField()
    timestamp = serializers.DateTimeField(help_text="The server's.")
    seq = serializers.IntegerField(help_text="Its place in the channel's log.")
    payload = serializers.DictField()
    message = serializers.JSONField(required=False)
    metadata = serializers.DictField(required=False)
    client_timestamp = serializers.CharField(required=False)

    def get_fields(self) -> Any:
        """The fields above, and ``from``, which Python does not let stand there."""
        return {**super().get_fields(), "from": serializers.CharField(help_text="The sender's client_id.")}


class MessageList(serializers.Serializer[Any]):
    """A page of messages. With a filter a page may hold fewer than asked for, and still have a next one."""

    results = Message(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null: this is the last.")


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
class TargetsField(serializers.JSONField):
    """A client_id or a list of them."""


class ChannelMessageToSend(serializers.Serializer[Any]):
    """A message, in either dialect of the socket. Keys of your own are passed on inside `metadata`."""

    type = serializers.CharField(required=False, max_length=64, help_text="event without it; system is for admins.")
    id = serializers.CharField(
        required=False, max_length=128, help_text="Your own id: sent again, it is not published twice."
    )
    message = serializers.JSONField(required=False, help_text="A text.")
    payload = ObjectField(required=False, help_text="An object, passed on byte for byte.")
    metadata = ObjectField(required=False)


class MessageToSend(ChannelMessageToSend):
    """A message with where it goes: `room` and `channel` (a room alone: the whole room), or `to` for private ones."""

    room = serializers.CharField(required=False, help_text="A room, or room:channel.")
    channel = serializers.CharField(required=False, help_text="A channel of `room`, or room:channel.")
    to = TargetsField(required=False, help_text="With type private: a client_id or a list of them.")


class ChannelBatch(serializers.Serializer[Any]):
    """Several messages for one channel, published together and in this order, or not at all."""

    messages = ChannelMessageToSend(many=True)


class Batch(serializers.Serializer[Any]):
    """Several messages, published together and in this order, or not at all."""

    messages = MessageToSend(many=True)


class Published(serializers.Serializer[Any]):
    """Where a message is now."""

    id = serializers.CharField(help_text="The id under which it is delivered.")
    room = serializers.CharField()
    channel = serializers.CharField()
    seq = serializers.IntegerField(allow_null=True, help_text="Its place in the log; null on ephemeral channels.")
    duplicate = serializers.BooleanField(help_text="It was there already; `seq` is that of the first time.")


class Delivery(serializers.Serializer[Any]):
    """Where the messages of a batch, or the copies of a private message, are now, in their order."""

    results = Published(many=True)
    unknown_targets = serializers.ListField(
        child=serializers.CharField(), help_text="Targets that nobody knows; the others were served."
    )


# --- clients, tokens, grants --------------------------------------------------------------------------------------------


class Client(serializers.Serializer[Any]):
    """A connected client."""

    client_id = serializers.CharField()
    client_type = serializers.CharField()
    screen_name = serializers.CharField(allow_null=True)
    avatar = serializers.CharField(allow_null=True)
    channels = serializers.ListField(child=serializers.CharField(), help_text="Those whose members the caller may see.")
    connected_at = serializers.DateTimeField(allow_null=True)
    last_activity = serializers.DateTimeField(allow_null=True)
    personality = serializers.DictField(required=False, help_text="For admins.")


class ClientList(serializers.Serializer[Any]):
    """A page of connected clients."""

    results = Client(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null: this is the last.")


class Disconnection(StrictSerializer):
    """Why a client is sent away."""

    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="Told to the client.")


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


class TokenList(serializers.Serializer[Any]):
    """A page of access tokens."""

    results = Token(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null: this is the last.")


class NewToken(StrictSerializer):
    """A token to be made, for the caller."""

    name = serializers.CharField(max_length=100, help_text="To tell it apart, such as the program that will have it.")
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


class GrantList(serializers.Serializer[Any]):
    """A page of rules."""

    results = GrantRow(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null: this is the last.")


class GrantChanges(StrictSerializer):
    """What is to be changed of a rule."""

    subject = serializers.ChoiceField(choices=Grant.Subject.choices, required=False)
    subject_name = serializers.CharField(
        max_length=150, required=False, allow_blank=True, help_text="Name of the user, group, token or client type."
    )
    action = serializers.ChoiceField(choices=Grant.Action.choices, required=False)
    pattern = serializers.CharField(
        max_length=130, required=False, help_text="room:channel with * for any text, such as science:*"
    )
    allow = serializers.BooleanField(required=False, help_text="false: a ban, which wins over what allows.")


class NewGrant(GrantChanges):
    """A rule to be made."""

    subject = serializers.ChoiceField(choices=Grant.Subject.choices)
    action = serializers.ChoiceField(choices=Grant.Action.choices)
    pattern = serializers.CharField(max_length=130, help_text="room:channel with * for any text, such as science:*")


# --- the server ---------------------------------------------------------------------------------------------------------


class AuditRow(serializers.Serializer[Any]):
    """Something that was changed."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(help_text="Who did it.")
    door = serializers.CharField(help_text="socket, rest, admin or command.")
    action = serializers.CharField()
    target = serializers.CharField()
    details = serializers.DictField()


class AuditList(serializers.Serializer[Any]):
    """A page of the audit log, newest first."""

    results = AuditRow(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null: this is the last.")


class Server(serializers.Serializer[Any]):
    """What answers."""

    version = serializers.CharField()
    protocol = serializers.CharField()


class Figures(serializers.Serializer[Any]):
    """Figures over all processes."""

    total_connections = serializers.IntegerField(help_text="Connections ever.")
    active_connections = serializers.IntegerField()
    active_rooms = serializers.IntegerField(help_text="Rooms with somebody in them.")
    active_channels = serializers.IntegerField()
    total_messages = serializers.IntegerField(help_text="Messages ever.")


class Stats(serializers.Serializer[Any]):
    """The server and its figures."""

    server = Server()
    stats = Figures()


class NodeRow(serializers.Serializer[Any]):
    """A process of the bus."""

    id = serializers.CharField()
    host = serializers.CharField()
    pid = serializers.IntegerField()
    version = serializers.CharField()
    started_at = serializers.DateTimeField()
    heartbeat_at = serializers.DateTimeField()
    alive = serializers.BooleanField(help_text="Whether its last sign of life is young.")
    clients = serializers.IntegerField(help_text="Clients connected to it.")
    stats = serializers.DictField(help_text="Its own figures, as of the last sign of life.")


class NodeList(serializers.Serializer[Any]):
    """The processes of the bus."""

    results = NodeRow(many=True)


class Me(serializers.Serializer[Any]):
    """Who the server thinks you are."""

    name = serializers.CharField()
    role = serializers.ChoiceField(choices=["admin", "user", "anonymous"])
    user = serializers.CharField(allow_null=True)
    token = serializers.CharField(allow_null=True, help_text="The name of the access token that was used.")
    groups = serializers.ListField(child=serializers.CharField())
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True, help_text="null: no restriction.")
    client_ids = serializers.ListField(child=serializers.CharField(), help_text="Client ids that are yours.")
    expires_at = serializers.DateTimeField(allow_null=True)
