"""What is hidden is refused after the same work as what is not there. Queries are counted, not time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from bus.auth.permissions import PUBLISH, SYSTEM, Actor, table
from bus.directory import channels as directory
from bus.models import AccessToken, Channel, Client, Grant, Membership, Node, Room, Stream
from bus.node.delivery.channels import Channels
from bus.node.runtime import Args, Result
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address
from bus.services import channel_lists, channels, clients, growing, history, publish, rooms
from bus.services.history import Question

Ask = Callable[[Actor, str, str], Any]

#: Each takes who asks, a room and a channel of it; the room also stands for a client.
QUESTIONS: dict[str, Ask] = {
    "history of a channel": lambda actor, room, name: history.page(actor, Question(Address(room, name))),
    "history of a room": lambda actor, room, name: history.page(actor, Question(Address(room, "*"))),
    "text in a room": lambda actor, room, name: history.page(actor, Question(Address(room, "*"), text="x")),
    "a message": lambda actor, room, name: history.message(actor, Address(room, name), 1),
    "channel_info": lambda actor, room, name: channel_lists.channel_info(actor, Address(room, name)),
    "list_channels": lambda actor, room, name: channel_lists.list_channels(actor, room=room, limit=10),
    "a room": lambda actor, room, name: rooms.get(actor, room),
    "a client": lambda actor, room, name: clients.get(actor, room),
    "clients of a channel": lambda actor, room, name: clients.list_clients(
        actor, limit=10, channel=Address(room, name)
    ),
    "join": lambda actor, room, name: _joined(actor, Address(room, name)),
    "create": lambda actor, room, name: channels.create_channel(actor, Address(room, name)),
    "delete": lambda actor, room, name: channels.delete_channel(actor, Address(room, name)),
    "change": lambda actor, room, name: channels.update_channel(actor, Address(room, name), {}, door="test"),
    "append": lambda actor, room, name: growing.append_to_stream(f"arq_{room}", 1, "x", actor=actor),
    "end a stream": lambda actor, room, name: growing.end_stream(f"arq_{room}", 0, actor=actor),
    "stop a stream": lambda actor, room, name: growing.stop_stream(f"arq_{room}", actor=actor),
    "adopt a stream": lambda actor, room, name: growing.adopt_stream(f"arq_{room}", actor=actor),
    "steer": lambda actor, room, name: publish("open:hall", message="x", steer=f"arq_{room}", actor=actor),
    "delete a room": lambda actor, room, name: rooms.delete_room(actor, room, door="test"),
}


def _joined(actor: Actor, address: Address) -> None:
    ref, _ = directory.ensure(address, actor)
    if ref.private:
        raise BusError(ErrorCode.CHANNEL_NOT_FOUND, f"There is no channel {address}.", [{"address": str(address)}])


@pytest.fixture(params=[False, True], ids=["no grant", "a grant by channel"])
def outsider(request: pytest.FixtureRequest, db: None, settings: Settings) -> Actor:
    """Somebody for whom the room `vault` is hidden: with all channels of its name, and a member."""
    settings.ARQONBUS = {"auto_create": False, "rate_limit": 0.0}
    vault = Room.objects.create(name="vault", private=True)
    hall = Channel.objects.create(room=vault, name="hall", head=3)
    Channel.objects.create(room=vault, name="*", kind=Channel.Kind.ROOM, head=3)
    Stream.objects.create(uid="arq_vault", channel=hall, seq=3, client_id="vault", principal="token:1")
    Channel.objects.create(room=Room.objects.create(name="open"), name="hall")
    node = Node.objects.create(id="n1", host="here", pid=1, version="0")
    Membership.objects.create(client=Client.objects.create(client_id="vault", node=node), channel=hall)
    if request.param:
        Grant.objects.create(subject="everyone", action="join", pattern="*:lobby-*", allow=True)
    return Actor(principal="token:9", name="me", token="me")


def answer(ask: Callable[[], Any]) -> tuple[str, list[str]]:
    """What was said, and the kinds of the statements that were asked before."""
    table().rules()
    with CaptureQueriesContext(connection) as captured:
        try:
            said = repr(ask())
        except BusError as problem:
            said = f"{problem.code} {problem.message} {problem.details}"
    statements = [query["sql"] for query in captured.captured_queries if 'FROM "bus_grant"' not in query["sql"]]
    return said, [_kind(statement) for statement in statements]


def _kind(statement: str) -> str:
    """A statement without its values."""
    return re.sub(r"'[^']*'|\b\d+\b", "?", statement)[:60]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_about_what_is_hidden_costs_what_one_about_nothing_does(outsider: Actor, name: str) -> None:
    ask = QUESTIONS[name]
    hidden, work = answer(lambda: ask(outsider, "vault", "hall"))
    nothing, same = answer(lambda: ask(outsider, "vaulx", "hall"))
    assert hidden.replace("vault", "vaulx") == nothing
    assert len(work) == len(same), (work, same)


@pytest.mark.parametrize(
    "body",
    [
        {"room": "ROOM", "channel": "hall", "message": "x"},
        {"room": "ROOM", "message": "x"},
        {"messages": [{"room": "ROOM", "channel": "hall", "message": "x"}, {"room": "ROOM", "message": "x"}]},
    ],
    ids=["a channel", "a room", "a batch"],
)
def test_a_publish_to_what_is_hidden_costs_what_one_to_nothing_does(outsider: Actor, body: Any) -> None:
    _, secret = AccessToken.issue("me")
    found = []
    for room in ("vault", "vaulx"):
        browser = Browser(headers={"Authorization": f"Bearer {secret}"})
        text = json.dumps(body).replace("ROOM", room)

        def post(text: str = text, browser: Browser = browser) -> Any:
            posted = browser.post("/api/v1/messages", text, content_type="application/json", HTTP_HOST="localhost")
            return posted.status_code, posted.content

        # The first one notes that the token was used.
        post()
        found.append(answer(post))
    (hidden, work), (nothing, same) = found
    assert hidden.replace("vault", "vaulx") == nothing
    assert "404" in nothing
    assert len(work) == len(same), (work, same)


@pytest.mark.django_db(transaction=True)
async def test_a_process_that_knows_the_channel_asks_for_it_as_for_one_that_it_does_not(settings: Settings) -> None:
    settings.ARQONBUS = {"auto_create": False}

    def make() -> None:
        Channel.objects.create(room=Room.objects.create(name="vault", private=True), name="hall")
        table().refresh()

    await sync_to_async(make)()
    asked = 0

    async def write(function: Callable[[*Args], Result], /, *args: *Args) -> Result:
        nonlocal asked
        asked += 1
        return await sync_to_async(function)(*args)

    process = Channels(write)
    # Somebody who may is there, so it is remembered.
    await process.resolve(Address("vault", "hall"), SYSTEM)
    await process.resolve(Address("vault", "hall"), SYSTEM)
    assert asked == 1
    outsider = Actor(principal="token:9", name="me")
    for action in ("join", PUBLISH):
        before = asked
        await process.resolve(Address("vault", "hall"), outsider, action=action)
        with pytest.raises(BusError):
            await process.resolve(Address("vaulx", "hall"), outsider, action=action)
        assert asked == before + 2
    assert process.known(Address("vault", "hall")) is not None
    await sync_to_async(connections.close_all)()
