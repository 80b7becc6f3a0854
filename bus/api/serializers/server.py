"""The server: its figures, its processes, its audit log, and who it takes you for."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from .base import Page


class Addresses(serializers.Serializer[Any]):
    """The addresses to begin with."""

    rooms = serializers.URLField()
    channels = serializers.URLField()
    messages = serializers.URLField()
    clients = serializers.URLField()
    tokens = serializers.URLField()
    tickets = serializers.URLField()
    grants = serializers.URLField()
    audit = serializers.URLField()
    nodes = serializers.URLField()
    stats = serializers.URLField()
    me = serializers.URLField()
    docs = serializers.URLField()


class AuditRow(serializers.Serializer[Any]):
    """Something that was changed."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(help_text="Who did it, by name.")
    principal = serializers.CharField(
        help_text="Who that was for sure: user:…, token:…, jwt:… or system; empty for strangers and rows of old."
    )
    door = serializers.CharField(help_text="socket, rest, admin or command.")
    action = serializers.CharField()
    target = serializers.CharField()
    details = serializers.DictField()


class AuditList(Page):
    """A page of the audit log, newest first."""

    results = AuditRow(many=True)


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
    me = serializers.CharField(
        allow_null=True, help_text="What `{me}` in the pattern of a grant stands for, such as user-7; null: nothing."
    )
    expires_at = serializers.DateTimeField(allow_null=True)
