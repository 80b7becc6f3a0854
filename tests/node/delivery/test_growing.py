"""Growing messages reach their readers in order and without a hole, however their parts come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps

from bus.auth.permissions import SYSTEM
from bus.log import Entry, snapshots
from bus.models import Stream
from bus.node import Node
from bus.node.delivery.snapshots import growth_of
from bus.notify.messages import Notification, StreamParts, StreamSignal
from bus.protocol.errors import BusError
from bus.protocol.names import Address, inbox
from bus.protocol.registration import Resume
from bus.publishing.growth import Outbox
from bus.realtime.event_writer import EventWriter
from bus.realtime.frame import Batch
from bus.realtime.writer import Bounds, Writer
from bus.services import streams as streamed
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient
from tests.node.growing import Owner, reading

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def reached(node: Node) -> Iterator[None]:
    """What other threads of the process announce reaches the node."""
    nodes = apps.get_app_config("bus").nodes  # type: ignore[attr-defined]
    nodes.add(node)
    yield
    nodes.discard(node)


async def member(node: Node, log: Log, name: str = "reader", **options: Any) -> NodeClient:
    """A client that is a member of the channel."""
    client = NodeClient(node)
    await client.register(name)
    joined = await node.members.join(client.state, log.ref.address, None, None, **options)
    await node.members.follow(client.state, joined)
    return client


async def listen(node: Node, log: Log, client: NodeClient, of: str) -> bool:
    """Listen to one message alone, as an answer of events does."""
    client.state.memberships[log.ref.id] = log.ref
    return await node.growing.listen(log.ref, of, client.state)


def grown(client: NodeClient, of: str = "arq_a1") -> list[dict[str, Any]]:
    """The frames about a streamed message that came until the last wait: its opening, parts, snapshots and end."""
    return [frame for frame in client.frames if of in (frame.get("of"), frame.get("id"))]


def kinds(client: NodeClient) -> list[str]:
    """What those frames are."""
    return ["snapshot" if frame.get("snapshot") else frame["type"] for frame in grown(client)]


async def has(client: NodeClient, text: str, of: str = "arq_a1") -> None:
    """Wait until a reader of the client's frames has this text."""
    await client.frame(lambda _: reading(client.frames, of)[0] == text, f"the text {text[-40:]!r}")


async def ended(client: NodeClient, of: str = "arq_a1") -> dict[str, Any]:
    """Wait for the end, and return it."""
    return await client.frame(lambda f: f["type"] == "stream_end" and f["of"] == of, "the end")


def notifications(owner: Owner, entries: list[Entry]) -> list[Notification]:
    """What another process sends about entries that it has committed, without the log's messages."""
    sent: list[Notification] = []
    outbox = Outbox(sent.append)
    for entry in entries:
        outbox.grown(entry, None)
    outbox.flush()
    return sent


async def test_members_get_opening_parts_and_end_in_order_and_the_owner_no_copy(node: Node, log: Log) -> None:
    reader, writer = await member(node, log), await member(node, log, "owner")
    deaf = await member(node, log, "deaf", parts=False)
    owner = Owner(node, log.ref, exclude=writer.state)
    parts = [owner.part(text) for text in ("Hel", "lo", " you")]
    # All in one turn of the loop: opening, parts, the end, and the next message of the log.
    await owner.write(owner.opening(), *parts, owner.part(".", end="complete"))
    await log.publish("after")
    await reader.message("after")
    assert kinds(reader) == ["event", *["append"] * 4, "stream_end"]
    assert [frame["n"] for frame in grown(reader)[1:-1]] == [1, 2, 3, 4]
    assert (await ended(reader))["message"] == "Hello you."
    await deaf.message("after")
    assert kinds(deaf) == ["event", "stream_end"]
    await writer.message("after")
    assert kinds(writer) == []
    assert node.announcer.parts == 4
    assert node.growing.open == 0


async def test_who_joins_late_gets_one_frame_for_the_past(node: Node, log: Log) -> None:
    owner = Owner(node, log.ref)
    early = await member(node, log)
    await owner.open()
    await owner.write(*(owner.part(f"{n} ") for n in range(1000)))
    text = "".join(f"{n} " for n in range(1000))
    late = [await member(node, log, f"late-{n}") for n in range(3)]
    await asyncio.gather(*(has(client, text) for client in late))
    await owner.say("more")
    await owner.end()
    for client in (early, *late):
        assert (await ended(client))["message"] == text + "more"
    for client in late:
        assert kinds(client) == ["snapshot", "append", "stream_end"]
        snapshot = grown(client)[0]
        assert (snapshot["upto"], snapshot["of_seq"], snapshot["from"]) == (1000, 1, "owner")
    assert "snapshot" not in kinds(early)


async def test_those_who_ask_at_once_share_one_read(node: Node, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner(node, log.ref)
    first = await member(node, log)
    await owner.open()
    await owner.say("text")
    reads: list[Any] = []
    read = snapshots.wholes

    def counted(stream_ids: Any) -> Any:
        reads.append(stream_ids)
        return read(stream_ids)

    monkeypatch.setattr(snapshots, "wholes", counted)
    (stream,) = await node.streams.open([log.ref])
    many = [NodeClient(node) for _ in range(50)]
    for client in many:
        node.hub.add(stream, client.state)
    await asyncio.gather(*(has(client, "text") for client in many))
    assert len(reads) == 1
    assert node.growing.snapshots == 50
    await has(first, "text")
    # Nothing was added since, so the text is not read again for the next ones.
    late = await member(node, log, "late")
    await has(late, "text")
    assert len(reads) == 1
    await owner.say(" more")
    await has(late, "text more")
    await has(await member(node, log, "last"), "text more")
    assert len(reads) == 2


async def test_who_comes_from_another_server_gets_a_snapshot_of_what_it_had_there_and_this_one_did_not_hear(
    node: Node, log: Log
) -> None:
    owner = Owner(node, log.ref)
    await owner.open()
    await owner.say("Hel")
    await has(await member(node, log, "first"), "Hel")
    # Another process commits, and its members have the part. Its notification is still on its way to this one, or lost.
    await owner.write_unheard(owner.part("lo"))
    late = await member(node, log, "late")
    await late.frame(lambda frame: "snapshot" in frame, "a snapshot")
    assert reading(late.frames) == ("Hello", 2)


class Read:
    """Holds the snapshots of a node back, after they were read."""

    def __init__(self, node: Node) -> None:
        self._found, self._free = asyncio.Event(), asyncio.Event()
        self._run = node.growing._snapshots._run
        node.growing._snapshots._run = self._held  # type: ignore[assignment]

    async def _held(self, *work: Any) -> Any:
        found = await self._run(*work)
        self._found.set()
        await self._free.wait()
        return found

    async def has_found(self) -> None:
        """Wait until a read has found something."""
        await asyncio.wait_for(self._found.wait(), 60)

    def go(self) -> None:
        """Let this read and all others go."""
        self._free.set()


@pytest.mark.parametrize("again", [False, True], ids=["somebody new", "one of those who waited"])
async def test_who_joins_during_a_read_waits_for_the_next_one(node: Node, log: Log, again: bool) -> None:
    owner, held = Owner(node, log.ref), Read(node)
    await owner.open()
    await owner.say("Hel")
    first = await member(node, log, "first")
    await held.has_found()
    await owner.write_unheard(owner.part("lo"))
    late = first
    if again:
        await node.members.leave(first.state, log.ref.address)
        joined = await node.members.join(first.state, log.ref.address, None, None)
        await node.members.follow(first.state, joined)
    else:
        late = await member(node, log, "late")
    held.go()
    await late.frame(lambda frame: "snapshot" in frame, "a snapshot")
    assert reading(late.frames) == ("Hello", 2)


async def test_a_part_that_is_lost_during_a_read_is_in_the_next_one(node: Node, log: Log) -> None:
    owner, held, reader = Owner(node, log.ref), Read(node), await member(node, log)
    await owner.open()
    await owner.say("1 ")
    late = await member(node, log, "late")
    await held.has_found()
    await owner.say("2 ", "3 ")
    made = await owner.write_unheard(owner.part("4 "), owner.part("5 "))
    (told,) = notifications(owner, made)
    assert isinstance(told, StreamParts)
    node.notifications.receive(StreamParts([told.parts[1]]))
    (stream,) = await node.streams.open([log.ref])
    await wait_for(lambda: growth_of(stream).messages["arq_a1"].lost, "the part is missed")
    held.go()
    for client in (reader, late):
        await has(client, "1 2 3 4 5 ")
        counts = [int(frame.get("upto") or frame["n"]) for frame in grown(client) if frame["type"] == "append"]
        assert counts == sorted(counts)
    await owner.end()
    assert (await ended(reader))["message"] == "1 2 3 4 5 "


async def test_a_returning_client_gets_heads_history_and_then_the_snapshot(node: Node, log: Log) -> None:
    owner = Owner(node, log.ref)
    await log.publish("before")
    await owner.open()
    await owner.say("Hel", "lo")
    client = NodeClient(node)
    positions = {str(log.ref.address): {"seq": 0, "epoch": log.ref.epoch}}
    token = (await NodeClient(node).register("reader"))["resume_token"]
    await client.register("reader", resume=Resume(token=token, positions=positions))
    await has(client, "Hello")
    order = [frame.get("message") or frame["type"] for frame in client.frames if frame["type"] != "system"]
    assert order == ["before", "event", "append"]
    registered = next(frame for frame in client.frames if frame["type"] == "system")
    assert registered["payload"]["event"] == "registered"
    assert client.frames.index(registered) == 0


async def test_parts_that_crossed_are_delivered_in_order(node: Node, log: Log) -> None:
    owner = Owner(node, log.ref)
    reader = await member(node, log)
    await owner.open()
    made = await owner.write_unheard(*(owner.part(f"{n} ") for n in range(4)))
    (told,) = notifications(owner, made)
    assert isinstance(told, StreamParts)
    for n in (1, 0, 3, 2, 1):
        node.notifications.receive(StreamParts([told.parts[n]]))
    await has(reader, "0 1 2 3 ")
    assert kinds(reader) == ["event", *["append"] * 4]


@pytest.mark.parametrize("lost", ["one of the middle", "a frame that was left out", "the opening"])
async def test_what_a_lost_notification_hid_is_read_after_the_next_part(node: Node, log: Log, lost: str) -> None:
    owner = Owner(node, log.ref)
    reader = await member(node, log)
    opening = owner.opening()
    if lost == "the opening":
        await owner.write_unheard(opening)
        assert opening.seq is not None
        node.streams.committed(log.ref.id, opening.seq, opening.frame)
    else:
        await owner.write(opening)
    made = await owner.write_unheard(*(owner.part(f"{n} ") for n in range(3)))
    (told,) = notifications(owner, made)
    assert isinstance(told, StreamParts)
    if lost == "a frame that was left out":
        told.parts[1] = told.parts[1]._replace(frame=b"")
    else:
        del told.parts[1]
    node.notifications.receive(told)
    await has(reader, "0 1 2 ")
    await owner.say("3")
    await has(reader, "0 1 2 3")


async def test_a_look_finds_what_no_notification_announced(node: Node, log: Log) -> None:
    owner = Owner(node, log.ref)
    reader = await member(node, log)
    await owner.write_unheard(owner.opening(), owner.part("Hel"))
    for _ in range(2):
        await node.watch.compare()
    await has(reader, "Hel")
    await owner.write_unheard(owner.part("lo"))
    for _ in range(2):
        await node.watch.compare()
    await has(reader, "Hello")
    await owner.write_unheard(owner.part(".", end="complete"))
    await node.watch.compare()
    assert (await ended(reader))["message"] == "Hello."
    assert kinds(reader) == ["event", "snapshot", "snapshot", "stream_end"]
    assert node.growing.open == 0


async def test_what_is_on_its_way_is_not_read(node: Node, log: Log) -> None:
    owner = Owner(node, log.ref)
    reader = await member(node, log)
    await owner.open()
    made = await owner.write_unheard(owner.part("Hel"))
    await node.watch.compare()
    for told in notifications(owner, made):
        node.notifications.receive(told)
    await node.watch.compare()
    await owner.end()
    await ended(reader)
    assert kinds(reader) == ["event", "append", "stream_end"]


async def test_an_adoption_without_the_text_begins_anew_and_parts_of_the_old_attempt_are_over(
    node: Node, log: Log
) -> None:
    reader, writer = await member(node, log), await member(node, log, "owner")
    owner = Owner(node, log.ref, exclude=writer.state)
    await owner.open()
    await owner.say("wrong", " way")
    late = await owner.write_unheard(owner.part(" on and on"))
    adopted = await node.runtime.run_writer(lambda: streamed.adopt(SYSTEM, "arq_a1", keep=False))
    again = Owner.after(adopted, node, log.ref)
    await reader.frame(lambda frame: frame.get("upto") == 0, "the empty snapshot")
    for told in notifications(owner, late):
        node.notifications.receive(told)
    await again.say("right")
    await has(reader, "right")
    # The old owner is a reader as any other now.
    await has(writer, "right")
    assert [frame["attempt"] for frame in grown(reader) if frame.get("snapshot")] == [2]


async def test_an_adoption_that_keeps_the_text_makes_a_reader_of_the_old_owner(node: Node, log: Log) -> None:
    reader, writer = await member(node, log), await member(node, log, "owner")
    owner = Owner(node, log.ref, exclude=writer.state)
    await owner.open()
    await owner.say("Hel")
    adopted = await node.runtime.run_writer(lambda: streamed.adopt(SYSTEM, "arq_a1"))
    again = Owner.after(adopted, node, log.ref)
    await again.say("lo")
    await has(reader, "Hello")
    await has(writer, "Hello")
    assert "snapshot" not in kinds(reader)


async def test_an_adoption_that_was_not_announced_is_noticed_by_the_next_part(node: Node, log: Log) -> None:
    reader = await member(node, log)
    owner = Owner(node, log.ref)
    await owner.open()
    await owner.say("one", "two", "three")
    await has(reader, "onetwothree")
    adopted = await node.runtime.run_writer(lambda: streamed.adopt(SYSTEM, "arq_a1", keep=False))
    again = Owner.after(adopted, node, log.ref)
    made = await again.write_unheard(again.part("four"))
    for told in notifications(again, made):
        node.notifications.receive(told)
    await has(reader, "four")


async def test_a_stop_of_listening_and_a_withdrawn_membership_end_the_parts_at_once(node: Node, log: Log) -> None:
    owner = Owner(node, log.ref)
    reader, listener, gone = await member(node, log), NodeClient(node), NodeClient(node)
    await owner.open()
    await owner.say("Hel")
    for client in (listener, gone):
        assert await listen(node, log, client, "arq_a1")
        await has(client, "Hel")
    node.growing.unlisten(log.ref, gone.state)
    await node.memberships.withdraw(reader.state, [log.ref])
    await node.memberships.withdraw(listener.state, [log.ref])
    other = await member(node, log, "other")
    await owner.say("lo")
    await has(other, "Hello")
    await owner.end()
    await ended(other)
    for client, last in ((reader, "Hel"), (listener, "Hel"), (gone, "Hel")):
        client.frames += map(json.loads, await client.events.next_frames(0.0))
        assert reading(client.frames)[0] == last
    assert [frame["payload"]["reason"] for frame in listener.frames if frame["type"] == "system"] == ["REVOKED"]


async def test_listeners_get_one_message_alone_and_its_end(node: Node, log: Log) -> None:
    owner, other = Owner(node, log.ref), Owner(node, log.ref, "arq_b2")
    await owner.open()
    await other.open()
    await owner.say("Hel")
    listeners = [NodeClient(node) for _ in range(20)]
    for client in listeners:
        assert await listen(node, log, client, "arq_a1")
    for client in listeners:
        await has(client, "Hel")
    await log.publish("not for them")
    await other.say("neither")
    await owner.say("lo")
    node.streams.collect()
    node.streams.collect()
    await owner.say("!")
    await owner.end()
    for client in listeners:
        assert (await ended(client))["message"] == "Hello!"
        assert [frame["of"] for frame in client.frames] == ["arq_a1"] * len(client.frames)
        assert kinds(client)[0] == "snapshot"
    assert not await listen(node, log, listeners[0], "arq_a1")
    assert not await listen(node, log, listeners[0], "arq_unknown")
    node.streams.collect()
    node.streams.collect()
    await other.end()
    node.streams.collect()
    node.streams.collect()
    assert node.hub.stream(log.ref.id) is None


@pytest.mark.parametrize("ended", ["the right", "the request"])
async def test_who_may_not_listen_any_more_once_the_stream_is_open_gets_nothing(
    node: Node, log: Log, ended: str
) -> None:
    owner, listener = Owner(node, log.ref), NodeClient(node)
    await owner.open()
    await owner.say("Hel")
    asked = asyncio.create_task(listen(node, log, listener, "arq_a1"))
    await asyncio.sleep(0)
    if ended == "the right":
        await node.memberships.withdraw(listener.state, [log.ref])
    else:
        del listener.state.memberships[log.ref.id]
    with pytest.raises(BusError) as caught:
        await asked
    assert caught.value.code == "REVOKED"
    stream = node.hub.stream(log.ref.id)
    assert stream is not None
    assert stream.audience() == []


async def test_a_message_grows_again_after_the_database_lost_its_end(node: Node, log: Log) -> None:
    owner, reader = Owner(node, log.ref), await member(node, log)
    await owner.open()
    await owner.end()
    await ended(reader)
    lost = Stream.objects.filter(uid="arq_a1")
    await node.runtime.run_writer(lambda: lost.update(state="open", end_seq=None, ended_at=None))
    node.watch.other_log(log.ref.id)
    back = await member(node, log, "back")
    await owner.say("Hel")
    await has(back, "Hel")


async def test_a_deleted_channel_ends_its_listeners(node: Node, log: Log) -> None:
    owner, listener = Owner(node, log.ref), NodeClient(node)
    await owner.open()
    assert await listen(node, log, listener, "arq_a1")
    node.memberships.drop_log(log.ref.id, None)
    assert (await listener.event("unsubscribed"))["reason"] == "DELETED"


async def test_a_stream_in_an_inbox_and_one_for_a_whole_room(node: Node, log: Log, fresh_room: str) -> None:
    reader = await member(node, log)
    deaf = await member(node, log, "deaf", parts=False)
    own = await node.channels.resolve(inbox("reader"), SYSTEM)
    room = await node.channels.resolve(Address(fresh_room, "*"), SYSTEM)
    for ref, of in ((own, "arq_private"), (room, "arq_room")):
        owner = Owner(node, ref, of)
        await owner.write(owner.opening(), owner.part("Hel"))
        await owner.write_apart(owner.part("lo"))
        await has(reader, "Hello", of)
        assert [frame["type"] for frame in grown(reader, of)][1:] == ["append", "append"]
        late = await member(node, log, f"late-{of}")
        await owner.end()
        assert (await ended(reader, of))["message"] == "Hello"
        if ref is room:
            await ended(late, of)
            await ended(deaf, of)
            assert [frame["type"] for frame in grown(deaf, of)][1:] == ["stream_end"]


class Slow:
    """A member with small bounds that reads when it is told to. Nothing may overflow."""

    def __init__(self, bounds: Bounds) -> None:
        self.overflows = 0
        self.events = EventWriter(bounds, self._overflow)
        self.writer: Writer = self.events
        self.frames: list[dict[str, Any]] = []

    def _overflow(self) -> None:
        self.overflows += 1

    async def has(self, text: str) -> None:
        """Read until the text is this one."""

        async def read() -> bool:
            self.frames += map(json.loads, await self.events.next_frames(0.0))
            return reading(self.frames)[0] == text

        await wait_for(read, f"the text {text[-40:]!r}")


@pytest.mark.parametrize("bounds", [Bounds(bytes=8000), Bounds(frames=40)], ids=["bytes", "frames"])
@pytest.mark.parametrize("listens", [False, True], ids=["member", "listener"])
async def test_a_slow_reader_skips_parts_and_gets_one_snapshot(
    node: Node, log: Log, bounds: Bounds, listens: bool
) -> None:
    owner, quick, slow = Owner(node, log.ref), await member(node, log), Slow(bounds)
    (stream,) = await node.streams.open([log.ref])
    await owner.open()
    if listens:
        listener = NodeClient(node)
        listener.state.writer = slow.events
        assert await listen(node, log, listener, "arq_a1")
    else:
        node.hub.add(stream, slow)
    await owner.say("begin ")
    await slow.has("begin ")
    before, skipped = len(slow.frames), node.hub.skipped
    words = [f"{n} " for n in range(200)]
    for word in words:
        await owner.say(word)
    text = "begin " + "".join(words)
    await has(quick, text)
    assert slow.events.buffered() <= bounds.bytes // 2
    await slow.has(text)
    missed = [frame for frame in slow.frames[before:] if frame["type"] == "append"]
    assert [frame["upto"] for frame in missed if frame.get("snapshot")] == [201]
    assert len(missed) < 100
    await owner.say("end")
    await slow.has(text + "end")
    await owner.end()
    await slow.has(text + "end")
    assert slow.overflows == 0
    assert node.hub.skipped - skipped == 200 - sum(frame.get("n", 0) > 1 for frame in missed)
    assert "snapshot" not in kinds(quick)


async def test_many_long_messages_do_not_overflow_who_joins(node: Node, log: Log) -> None:
    owners = [Owner(node, log.ref, f"arq_{n}") for n in range(8)]
    (stream,) = await node.streams.open([log.ref])
    for owner in owners:
        await owner.open()
        await owner.say("x" * 5000)
    slow = Slow(Bounds(bytes=8000))
    node.hub.add(stream, slow)

    async def read() -> bool:
        slow.frames += map(json.loads, await slow.events.next_frames(0.0))
        return all(reading(slow.frames, owner.of)[1] == 1 for owner in owners)

    await wait_for(read, "a snapshot of each message")
    assert (slow.overflows, len(slow.frames)) == (0, len(owners))


class Counted(EventWriter):
    """A writer that counts how often it is asked whether the client takes what it is sent."""

    asked = 0

    def drained(self) -> bool:
        """As the base class, and counted."""
        self.asked += 1
        return super().drained()


async def test_who_is_slow_in_many_messages_is_looked_at_once(node: Node, log: Log) -> None:
    owners = [Owner(node, log.ref, f"arq_{n}") for n in range(5)]
    (stream,) = await node.streams.open([log.ref])
    for owner in owners:
        await owner.open()
        await owner.say("text")
    slow = Slow(Bounds(bytes=8000))
    writer = slow.writer = Counted(slow.events.bounds, lambda: None)
    writer.write(Batch([b"x" * 4000]))
    node.hub.add(stream, slow)
    writer.asked = 0
    node.growing._snapshots._look_at_slow()
    assert writer.asked == 1
    await writer.next_frames(0.0)
    found: list[Any] = []

    async def read() -> bool:
        found.extend(map(json.loads, await writer.next_frames(0.0)))
        return all(reading(found, owner.of)[0] == "text" for owner in owners)

    await wait_for(read, "the snapshots")


async def test_a_snapshot_that_fits_nobody_waits_for_the_next_look(
    node: Node, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, slow = Owner(node, log.ref), Slow(Bounds(bytes=8000))
    (stream,) = await node.streams.open([log.ref])
    await owner.open()
    await owner.say("x" * 7000)
    slow.events.write(Batch([b'{"type":"usual"}']))
    reads: list[int] = []
    read = streamed.snapshot

    def counted(stream_id: int, *known: Any) -> Any:
        reads.append(stream_id)
        return read(stream_id, *known)

    monkeypatch.setattr(streamed, "snapshot", counted)
    node.hub.add(stream, slow)
    snapshots = node.growing._snapshots
    await wait_for(lambda: reads and snapshots._behind, "the wait of the message for the next look")
    assert len(reads) == 1
    await slow.has("x" * 7000)


async def test_who_takes_a_client_id_without_proof_gets_nothing_of_what_grew_for_the_one_before(
    node: Node, log: Log
) -> None:
    before = NodeClient(node)
    await before.register("reader")
    own = await node.channels.resolve(inbox("reader"), SYSTEM)
    owner, later = Owner(node, own), Owner(node, own, "arq_later")
    await owner.write(owner.opening(), owner.part("secret "))
    await before.disconnect()
    after = await member(node, log, "reader")
    # The claim ended what grew for the client before: the floor lies at that end.
    assert after.state.inbox_floor == 2
    await later.open()
    await later.say("Hel")
    await has(after, "Hel", "arq_later")
    await later.say("lo")
    await has(after, "Hello", "arq_later")
    assert kinds(after) == []


async def test_who_wants_parts_again_gets_a_snapshot(node: Node, log: Log) -> None:
    owner, reader = Owner(node, log.ref), await member(node, log, parts=False)
    await owner.open()
    await owner.say("Hel")
    await node.members.join(reader.state, log.ref.address, None, None, parts=True)
    await has(reader, "Hel")
    await node.members.join(reader.state, log.ref.address, None, None, parts=False)
    await owner.say("lo")
    await owner.end()
    await ended(reader)
    assert kinds(reader) == ["event", "snapshot", "stream_end"]


async def test_a_late_notification_of_an_ended_message_does_nothing(node: Node, log: Log) -> None:
    owner, reader = Owner(node, log.ref), await member(node, log)
    await owner.open()
    made = await owner.write_unheard(owner.part("Hel"))
    told = notifications(owner, made)
    await owner.end()
    await ended(reader)
    state = made[0].effect.stream  # type: ignore[union-attr]
    assert state is not None
    signal = StreamSignal("opened", "arq_a1", log.ref.id, state.id, 1, "text", 1, 0, "owner", "")
    for late in (*told, signal):
        node.notifications.receive(late)
    assert node.growing.open == 0
    await log.publish("after")
    await reader.message("after")
    assert kinds(reader) == ["event", "stream_end"]


async def test_an_end_that_was_pruned_before_its_delivery_does_not_stay_open(node: Node, log: Log) -> None:
    owner, listener = Owner(node, log.ref), NodeClient(node)
    await owner.open()
    assert await listen(node, log, listener, "arq_a1")
    (stream,) = await node.streams.open([log.ref])
    (end,) = await owner.write_unheard(owner.part(end="complete"))
    # As if the log's message were gone already.
    stream.head = end.seq or 0
    for _ in range(3):
        node.watch.compare_all_next()
        await node.watch.compare()
    await wait_for(lambda: node.growing.open == 0, "the message is forgotten")
    assert listener.closed is not None
