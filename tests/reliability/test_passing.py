"""P7 on ephemeral channels, which have no log to find a repeat in: one message, once, by whichever door it comes."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bus.log import Passed
from bus.log.passed import REMEMBERED
from tests.conftest import StartServer
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer

Send = Callable[[str, str], Coroutine[Any, Any, bool]]


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    passed = Passed()
    for number in range(3 * REMEMBERED):
        assert passed.admit(f"a/{number}", 1) is None
        assert passed.admit(f"a/{number}", 2) == 1
        assert len(passed) <= REMEMBERED
    assert passed.channel_of("a/0") is None
    assert passed.channel_of(f"a/{3 * REMEMBERED - 1}") == 1


async def test_a_repeat_by_any_door_of_any_process_is_delivered_once(start_server: StartServer) -> None:
    servers: list[BusServer] = [await asyncio.to_thread(start_server) for _ in range(2)]
    if servers[0].storage.redis is None:
        servers = servers[:1]  # Without a layer nothing of an ephemeral channel crosses.
    token = servers[0].create_token("ada", admin=True)
    admin = await WireClient.connect(servers[0].url, client_id="ada", token=token, room="lab:door")
    for channel in ("pulse", "other"):
        await admin.request("create_channel", room="lab", channel=channel, ephemeral=True)
    members = [await WireClient.connect(server.url, room="lab:pulse") for server in servers]
    senders = [admin]
    senders += [
        await WireClient.connect(server.url, client_id=f"ada-{n}", token=token, room="lab:door")
        for n, server in enumerate(servers[1:])
    ]

    def by_socket(client: WireClient) -> Send:
        async def send(message_id: str, channel: str) -> bool:
            ack = await client.publish("beat", message_id=message_id, room="lab", channel=channel, ack=True)
            return bool(ack.get("duplicate"))

        return send

    def by_rest(server: BusServer, batch: bool) -> Send:
        def post(message_id: str, channel: str) -> bool:
            frame = {"id": message_id, "message": "beat", "room": "lab", "channel": channel}
            request = urllib.request.Request(
                f"{server.http_url}/api/v1/messages?client_id=ada",
                json.dumps({"messages": [frame, frame]} if batch else frame).encode(),
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request) as answer:
                    found = json.load(answer)
            except urllib.error.HTTPError as refused:
                with refused:
                    raise AssertionError(json.load(refused)["error"]["code"]) from None
            if batch:
                assert found["results"][1]["duplicate"] is True
                found = found["results"][0]
            return bool(found["duplicate"])

        async def send(message_id: str, channel: str) -> bool:
            return await asyncio.to_thread(post, message_id, channel)

        return send

    # The second process's sender is another client, so only its REST door speaks as the first one.
    doors = {"socket": by_socket(admin), "rest": by_rest(servers[0], False), "batch": by_rest(servers[0], True)}
    if len(servers) > 1:
        doors["rest elsewhere"] = by_rest(servers[1], False)
    sent = 0
    for first, second in itertools.product(doors, doors):
        sent += 1
        message_id = f"arq_{first}-{second}".replace(" ", "-")
        assert await doors[first](message_id, "pulse") is False, (first, second)
        # Everybody has heard of it, the processes too.
        for member in members:
            await member.expect(id=message_id)
        assert await doors[second](message_id, "pulse") is True, (first, second)
        with pytest.raises(AssertionError, match="VALIDATION_ERROR"):
            await doors[second](message_id, "other")
    await admin.publish("end", message_id="arq_end", room="lab", channel="pulse", ack=True)
    for member in members:
        await member.expect(id="arq_end")
        assert len([frame for frame in member.frames if frame.get("message") == "beat"]) == sent
    with pytest.raises(WireError, match="VALIDATION_ERROR"):
        await doors["socket"]("arq_end", "other")
    for client in (*members, *senders):
        await client.close()
