"""Somebody else writes into the same Redis: what is no notification of ours has no effect, and the receiver goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from channels_redis.core import RedisChannelLayer
from redis import asyncio as aioredis

from bus.notify.layer import links_over
from bus.notify.link import Link
from bus.notify.messages import (
    AccessChanged,
    ChannelChanged,
    CommittedMessage,
    Dismiss,
    EphemeralFrame,
    EphemeralPublished,
    PresenceNotice,
    Published,
)
from bus.notify.topics import CONTROL, channel_topic, client_topic
from bus.protocol.errors import ErrorCode
from tests.conftest import Connect
from tests.harness.server import BusServer
from tests.security.conftest import Console

pytestmark = pytest.mark.cluster

PREFIX = "arqonbus"


def link_to(server: BusServer) -> Link:
    """A link as anybody has it who reaches the Redis."""
    (link,) = links_over(RedisChannelLayer(hosts=[server.process.env["REDIS_URL"]], prefix=PREFIX))
    return link


def ephemeral(console: Console, room: str) -> int:
    """The id of a new ephemeral channel, whose messages from another process come by notification or not at all."""
    return int(
        console.run(
            f"""
            from bus.protocol.names import Address
            result = services.channels.create_channel(SYSTEM, Address({room!r}, "pulse"), ephemeral=True, door="test").pk
            """
        )
    )


def publish(console: Console, room: str, text: str) -> None:
    """A message from another process."""
    console.run(f'services.publish("{room}:pulse", message={text!r})')


async def test_forged_and_garbled_messages_of_the_layer_have_no_effect(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    channel_id = ephemeral(console, fresh_room)
    member = await wire(public_server, client_id=f"{fresh_room}-m", room=f"{fresh_room}:pulse")
    stored = await wire(public_server, room=f"{fresh_room}:kept")
    await stored.publish("true", ack=True)
    kept_id = console.run(f"result = Channel.objects.get(room__name={fresh_room!r}, name='kept').pk")
    lie = b'{"type":"event","from":"arqonbus_server","seq":2,"message":"a lie"}'
    encode = msgspec.msgpack.encode
    forged: list[Any] = [
        encode([EphemeralPublished([EphemeralFrame(channel_id, lie), EphemeralFrame(kept_id, lie)])]),
        encode([Published([CommittedMessage(kept_id, fresh_room, "kept", "", 2, lie)])]),
        encode([Published([CommittedMessage(kept_id, fresh_room, "kept", "", 2**62, b"")])]),
        encode([PresenceNotice(channel_id, lie)]),
        encode([ChannelChanged(fresh_room, "kept", kept_id)]),
        encode([AccessChanged("everyone", 2**60)]),
        encode([Dismiss(member.client_id, "", 99999, "NO_SUCH_CODE", "go away")]),  # type: ignore[arg-type]
        b"x" * 16 + encode([Dismiss(member.client_id, "", 4403, ErrorCode.REVOKED, "go away")]),
        *(b"", b"\xc1", encode([]), encode({"a": 1}), encode(5), 5, None, "text", ["list"], {"a": {}}),
    ]
    link, lines = link_to(public_server), public_server.log().count("bell_unknown")
    topics = (CONTROL, channel_topic(channel_id), channel_topic(kept_id), client_topic(member.client_id))
    for data in forged:
        await link.send([(topic, {"type": "bus.notification", "sender": "", "data": data}) for topic in topics])
    await link.send([(CONTROL, {}), (CONTROL, {"sender": {}, "data": {}, "type": 5})])
    await link.close()
    # What is not even a message of the layer, in the place where the process reads.
    redis = aioredis.from_url(public_server.process.env["REDIS_URL"])
    for garbage in (b"", b"\xc1", b"\x05", b"\x90", b"\xa1x", b"\xc0", b"\x81\xa1", b"\xd9\x05ab"):
        for start in (b"0" * 12, b""):
            assert await redis.publish(f"{PREFIX}:bus:{CONTROL}", start + garbage) >= 1
    await redis.aclose()

    publish(console, fresh_room, "true as well")

    await member.expect(message="true as well")
    await stored.publish("true again", ack=True)
    await stored.ping()
    await member.ping()
    assert "a lie" not in json.dumps([member.frames, stored.frames])
    log = public_server.log()
    assert "Traceback" not in log
    assert log.count("bell_unknown") - lines <= 1 <= log.count("bell_unknown")
    assert "layer_lost" not in log
    # Nothing of it is in the way of what is true: a withdrawal is heard of.
    token = console.token(f"layer {fresh_room}")
    withdrawn = await wire(public_server, token=token)
    console.run(f"tokens.revoke(SYSTEM, AccessToken.objects.get(name='layer {fresh_room}'), door='test')")
    assert await withdrawn.wait_closed() == 4403


async def test_notifications_of_another_version_leave_those_beside_them_to_be_heard(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """A rolling update: fields and kinds of notification that this process does not know."""
    channel_id = ephemeral(console, fresh_room)
    member = await wire(public_server, room=f"{fresh_room}:pulse")
    frame = '{"version":"1.0","type":"event","from":"x","message":"understood"}'
    console.run(
        f"""
        import msgspec
        from asgiref.sync import async_to_sync
        from bus.notify.layer import links_over, shared_layer
        from bus.notify.topics import channel_topic
        from bus.notify.seal import seal
        frame = {frame!r}.encode()
        parts = [["zz", 1, 2], ["p", "no list"], ["f", [[{channel_id}, frame]], "a field of tomorrow"], 7, {{"a": 1}}]
        async def tell():
            (link,) = links_over(shared_layer())
            for part in (parts, 5):
                message = {{"type": "bus.notification", "sender": "", "data": seal(msgspec.msgpack.encode(part)), "more": 1}}
                await link.send([(channel_topic({channel_id}), message)])
            await link.close()
        async_to_sync(tell)()
        """
    )
    await member.expect(message="understood")
    publish(console, fresh_room, "and on")
    await member.expect(message="and on")
    await asyncio.sleep(0)
    assert "Traceback" not in public_server.log()
