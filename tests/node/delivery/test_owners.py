"""The owner of a streamed message is told of stops and steers at once, or by the next look, and again after a reconnect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps

from bus.auth.permissions import PUBLISH, SYSTEM
from bus.models import Grant
from bus.node import Node
from bus.notify.messages import StreamSignal
from bus.protocol.registration import Resume
from bus.services import stream_owners
from bus.services import streams as streamed
from tests.node.conftest import Log, NodeClient
from tests.node.growing import Owner

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def reached(node: Node) -> Iterator[None]:
    """What other threads of the process announce reaches the node."""
    nodes = apps.get_app_config("bus").nodes  # type: ignore[attr-defined]
    nodes.add(node)
    yield
    nodes.discard(node)


@pytest.fixture
async def client(node: Node) -> NodeClient:
    """The connection of the owner."""
    made = NodeClient(node)
    await made.register("owner")
    return made


@pytest.fixture
async def owner(node: Node, log: Log, client: NodeClient) -> Owner:
    """The owner of an open message."""
    made = Owner(node, log.ref, exclude=client.state)
    await made.open()
    return made


def stop(node: Node) -> Any:
    """Ask for a stop, as any door does."""
    return node.runtime.run_writer(lambda: streamed.request_stop(SYSTEM, "arq_a1"))


def notices(client: NodeClient) -> list[str]:
    """The stops and steers that came until the last wait."""
    payloads = [frame["payload"] for frame in client.frames if frame["type"] == "system"]
    return [
        payload["message"]["id"] if payload["event"] == "steer" else payload["event"]
        for payload in payloads
        if payload["event"] in ("steer", "stop_requested")
    ]


async def test_a_stop_reaches_the_owner_once(node: Node, client: NodeClient, owner: Owner) -> None:
    assert (await stop(node)).state.stopping
    assert (await client.event("stop_requested"))["of"] == "arq_a1"
    await stop(node)
    await node.watch.compare()
    await owner.write(owner.steer("arq_s1"))
    await client.event("steer")
    assert notices(client) == ["stop_requested", "arq_s1"]


async def test_a_steer_reaches_the_owner_before_the_members(node: Node, log: Log, client: NodeClient) -> None:
    owner = Owner(node, log.ref)
    await client.join(str(log.ref.address))
    await owner.open()
    await owner.write(owner.steer("arq_s1", "left"))
    await client.frame(lambda frame: frame.get("id") == "arq_s1", "the message")
    steer = next(frame for frame in client.frames if (frame.get("payload") or {}).get("event") == "steer")
    message = next(frame for frame in client.frames if frame.get("id") == "arq_s1")
    assert client.frames.index(steer) < client.frames.index(message)
    assert steer["payload"]["message"] == message
    assert (steer["payload"]["of"], message["steer"]) == ("arq_a1", "arq_a1")


async def test_a_look_finds_what_no_notification_said(
    node: Node, client: NodeClient, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owner.write_unheard(owner.steer("arq_s1"), owner.steer("arq_s2"))
    monkeypatch.setattr(node.owners, "tell", lambda signal: None)
    await stop(node)
    await node.watch.compare()
    await node.watch.compare()
    await client.frame(lambda _: len(notices(client)) == 3, "three notices")
    assert sorted(notices(client)) == ["arq_s1", "arq_s2", "stop_requested"]


async def test_an_owner_that_is_back_is_told_again_and_taken_steers_are_not(
    node: Node, client: NodeClient, owner: Owner
) -> None:
    await owner.write(owner.steer("arq_s1"), owner.steer("arq_s2"))
    await client.frame(lambda _: len(notices(client)) == 2, "both steers")
    taking = owner.part("Hel")
    taking.effect.took = ("arq_s1",)  # type: ignore[union-attr]
    await owner.write(taking)
    token = client.state.resume_token
    await client.disconnect()
    back = NodeClient(node)
    await back.register("owner", resume=Resume(token=token, positions={}))
    await node.watch.compare()
    await back.event("steer")
    assert notices(back) == ["arq_s2"]


async def test_an_owner_that_repeats_its_opening_is_told_again(node: Node, log: Log, client: NodeClient) -> None:
    owner = Owner(node, log.ref, exclude=client.state)
    opening, again = owner.opening(), owner.opening()
    opening.key = again.key = "owner/a1"
    await owner.write(opening)
    await owner.write(owner.steer("arq_s1"))
    await client.event("steer")
    await owner.write(again)
    assert again.duplicate
    await client.frame(lambda _: len(notices(client)) == 2, "the steer again")
    assert notices(client) == ["arq_s1", "arq_s1"]


async def test_a_notice_that_was_too_large_for_the_notification_is_read(
    node: Node, client: NodeClient, owner: Owner
) -> None:
    (steer,) = await owner.write_unheard(owner.steer("arq_s1"))
    state = steer.effect.stream  # type: ignore[union-attr]
    assert state is not None
    node.notifications.receive(
        StreamSignal("steer", "arq_a1", state.channel_id, state.id, 1, "text", 1, 0, "owner", "", steer_seq=2)
    )
    assert (await client.event("steer"))["message"]["id"] == "arq_s1"


async def test_somebody_else_with_the_client_id_hears_nothing(node: Node, log: Log, client: NodeClient) -> None:
    owner = Owner(node, log.ref, principal="user:1")
    await owner.open()
    await owner.write(owner.steer("arq_s1"))
    await node.watch.compare()
    await log.publish("after")
    await client.join(str(log.ref.address), since=0)
    await client.message("after")
    assert notices(client) == []


async def test_a_look_reads_few_bytes_of_the_steers_that_were_not_told(node: Node, owner: Owner) -> None:
    frame_bytes = node.runtime.settings.frame_bytes
    steers = [owner.steer(f"arq_s{n}", "x" * (frame_bytes - 1000)) for n in range(6)]
    await owner.write_unheard(*steers)
    state = steers[0].effect.stream  # type: ignore[union-attr]
    assert state is not None

    async def look(*told: int) -> list[int]:
        asked = {state.id: stream_owners.Owner(SYSTEM, told)}
        (found,) = await node.runtime.run_watcher(stream_owners.owed, asked)
        assert sum(len(steer.frame) for steer in found.steers) <= 3 * frame_bytes
        return [steer.seq for steer in found.steers]

    first = await look()
    assert first == [2, 3, 4]
    assert await look(*first) == [5, 6, 7]
    assert await look(*range(2, 8)) == []


async def test_all_steers_are_told_in_several_looks(node: Node, client: NodeClient, owner: Owner) -> None:
    large = "x" * (node.runtime.settings.frame_bytes - 1000)
    await owner.write_unheard(*(owner.steer(f"arq_s{n}", large) for n in range(6)))
    for _ in range(2):
        await node.watch.compare()
    await client.frame(lambda _: len(notices(client)) == 6, "six steers")
    await node.watch.compare()
    assert notices(client) == [f"arq_s{n}" for n in range(6)]


@pytest.mark.parametrize("heard", [True, False])
async def test_an_owner_that_may_not_publish_any_more_is_told_nothing(
    node: Node, log: Log, client: NodeClient, owner: Owner, heard: bool
) -> None:
    def deny() -> None:
        Grant.objects.create(subject="anonymous", action=PUBLISH, pattern=str(log.ref.address), allow=False)

    await node.runtime.run_writer(deny)
    await (owner.write if heard else owner.write_unheard)(owner.steer("arq_s1"))
    await stop(node)
    await node.watch.compare()
    await client.join(str(log.ref.address), since=0)
    await client.frame(lambda frame: frame.get("id") == "arq_s1", "the steer as a message")
    assert notices(client) == []
