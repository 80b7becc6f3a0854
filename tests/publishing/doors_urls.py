"""Django code inside a server, called over HTTP by ``test_doors``: it publishes, and says what the server knows."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from django.apps import apps
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from arqonbus_site.urls import urlpatterns as _site
from bus import services
from bus.auth.identity import from_token
from bus.auth.permissions import SYSTEM
from bus.models import Client, Message, Room
from bus.monitoring import metrics
from bus.protocol.errors import BusError
from bus.protocol.names import SERVER, Address
from bus.services import send_private
from bus.services.channels import create_channel
from bus.signals import message_published

#: What the signal told: (room, channel, seq, frame) of each message.
_heard: list[tuple[str, str, int, str]] = []


def _note(messages: list[tuple[Address, int, bytes]], **_: Any) -> None:
    _heard.extend((address.room, address.channel, seq, frame.decode()) for address, seq, frame in messages)


message_published.connect(_note, weak=False)


def _prepare(asked: dict[str, Any]) -> dict[str, Any]:
    """Make the rooms of a door, and a user for the admin."""
    open_, locked = asked["room"], asked["locked"]
    create_channel(SYSTEM, Address(open_, "hall"), door="test")
    create_channel(SYSTEM, Address(open_, "fleeting"), ephemeral=True, door="test")
    create_channel(SYSTEM, Address(locked, "hall"), door="test")
    Room.objects.filter(name=locked).update(private=True)
    get_user_model().objects.create_superuser(asked["user"], "", asked["password"])
    return {}


def _publish(asked: dict[str, Any]) -> dict[str, Any]:
    """Call the public function as a project's code does."""
    actor = msgspec.structs.replace(from_token(asked.pop("token")), client_id=asked.pop("client_id"))
    targets = asked.pop("to", None)
    function = getattr(services, asked.pop("call", "publish"))
    try:
        done = [function(actor=actor, **asked)] if targets is None else send_private(targets, actor=actor, **asked)
    except BusError as problem:
        return {"error": problem.as_dict()}
    return {"results": [msgspec.to_builtins(published) for published in done]}


def _look(asked: dict[str, Any]) -> dict[str, Any]:
    """What is new since the last look: rows behind ``after``, what the signal told, and the counters; but the server's own."""
    (node,) = apps.get_app_config("bus").nodes  # type: ignore[attr-defined]
    # MCP answers with an error for an unknown target while the messages for the others are on their way.
    asyncio.run_coroutine_threadsafe(node.log.drained(), node.runtime.loop).result(30)
    rows = Message.objects.filter(pk__gt=asked["after"]).exclude(sender=SERVER).select_related("channel__room")
    heard, _heard[:] = [fact for fact in _heard if f'"from":"{SERVER}"' not in fact[3]], []
    return {
        "rows": [
            (row.pk, row.channel.room.name, row.channel.name, row.seq, row.uid, row.type, row.sender, row.frame)
            for row in rows.order_by("pk")
        ],
        "heard": heard,
        "published": node.announcer.client_messages,
        "errors": metrics.by_code(metrics.errors),
    }


def _client(asked: dict[str, Any]) -> dict[str, Any]:
    """The primary key of a client, which the admin's address of it has."""
    return {"pk": Client.objects.get(client_id=asked["client_id"]).pk}


_ACTIONS = {"prepare": _prepare, "publish": _publish, "look": _look, "client": _client}


@csrf_exempt
def inside(request: HttpRequest, action: str) -> HttpResponse:
    """Do one of the actions, in a thread of the server."""
    return HttpResponse(
        msgspec.json.encode(_ACTIONS[action](json.loads(request.body))), content_type="application/json"
    )


urlpatterns = [path("inside/<str:action>", inside), *_site]
