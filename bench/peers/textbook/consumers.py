"""The tutorial's `ChatConsumer` with what the workloads need: a target room, and save-then-acknowledge."""

from __future__ import annotations

import json
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from bench.peers.textbook.models import Message


class ChatConsumer(AsyncWebsocketConsumer):
    """A member of the room in its URL; its messages go to the room they name, or to its own."""

    async def connect(self) -> None:
        """Join the room group."""
        self.room_group_name = f"chat_{self.scope['url_route']['kwargs']['room_name']}"
        await self.channel_layer.group_add(self.room_group_name, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        """Leave the room group."""
        await self.channel_layer.group_discard(self.room_group_name, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send the message to the room group; with `save`, store it first and acknowledge it."""
        data: dict[str, Any] = json.loads(text_data or "{}")
        group = f"chat_{data['room']}" if "room" in data else self.room_group_name
        saved = await Message.objects.acreate(room=group, text=data["message"]) if data.get("save") else None
        await self.channel_layer.group_send(group, {"type": "chat.message", "message": data["message"]})
        if saved is not None:
            await self.send(text_data=json.dumps({"ack": saved.pk}))

    async def chat_message(self, event: dict[str, Any]) -> None:
        """Send a message of the room group to the socket."""
        await self.send(text_data=json.dumps({"message": event["message"]}))
