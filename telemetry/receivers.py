"""The bus's signals, turned into telemetry."""

from __future__ import annotations

from typing import Any

from bus import signals
from bus.node import ClientState, running

from . import protocol, services


def connect() -> None:
    """Connect the receivers. The app calls this when it is ready."""
    for signal, receiver in (
        (signals.client_connected, _client_connected),
        (signals.client_disconnected, _client_disconnected),
        (signals.channel_created, _channel_created),
        (signals.channel_deleted, _channel_deleted),
        (signals.server_stats, _server_stats),
        (signals.client_active, _client_active),
    ):
        signal.connect(receiver, dispatch_uid=f"arqonbus.telemetry.{receiver.__name__}")


def _hidden(room: str, private: bool) -> bool:
    """Whether an event would reveal a private room to the readers of telemetry."""
    return private and room != protocol.stream().room


def _client_connected(client: dict[str, Any], room: str, channel: str, private: bool = False, **_: Any) -> None:
    if not _hidden(room, private):
        services.publish_event(protocol.CLIENT_CONNECTED, {**client, "room": room, "channel": channel})


def _client_disconnected(client: dict[str, Any], code: int, room: str = "", private: bool = False, **_: Any) -> None:
    if not _hidden(room, private):
        services.publish_event(protocol.CLIENT_DISCONNECTED, {**client, "code": code})


def _channel_created(room: str, channel: str, created_by: str, private: bool = False, **_: Any) -> None:
    if not _hidden(room, private):
        services.publish_event(protocol.CHANNEL_CREATED, {"room": room, "channel": channel, "created_by": created_by})


def _channel_deleted(room: str, channel: str, deleted_by: str, private: bool = False, **_: Any) -> None:
    if not _hidden(room, private):
        services.publish_event(protocol.CHANNEL_DELETED, {"room": room, "channel": channel, "deleted_by": deleted_by})


def _server_stats(node: str, stats: dict[str, Any], **_: Any) -> None:
    services.publish_event(protocol.SERVER_STATS, {"node": node, **stats})


def _client_active(
    client: ClientState, activity: str, room: str, channel: str, private: bool = False, **_: Any
) -> None:
    node = running()
    if node is not None and not _hidden(room, private) and client.client_type not in protocol.SYSTEM_TYPES:
        services.publish_activity(node, client.card(), activity, room, channel)
