"""Step 4 with a real hub and broker and no socket: who hears of what was committed, and what its sender is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from bus.directory.channels import ChannelRef, inbox_ref
from bus.log import Entry
from bus.notify.broker import NullBroker
from bus.notify.messages import CommittedMessage, EphemeralFrame, EphemeralPublished, Published
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.inbound import KIND_PRIVATE, Inbound
from bus.protocol.names import Address
from bus.publishing.announce import Announcer, Answer, published
from bus.publishing.plan import Plan
from bus.realtime.hub import Hub
from bus.realtime.recent import RecentBudget
from bus.signals import message_published

HALL = ChannelRef(7, Address("lab", "hall"), "epoch", ephemeral=False, private=False, presence=True)
FLEETING = ChannelRef(8, Address("lab", "fleeting"), "epoch", ephemeral=True, private=False, presence=True)
BOB, CAROL = inbox_ref(10, "bob", "epoch"), inbox_ref(11, "carol", "epoch")


def entry(ref: ChannelRef, seq: int | None = None, *, key: str | None = None) -> Entry:
    """A message after its commit."""
    made = Entry(ref.id, b"", b"", f"arq_{seq}", "event", "alice", key, context=ref)
    made.seq, made.epoch, made.frame = seq, ref.epoch, b'{"seq":%d}' % (seq or 0)
    return made


class Node:
    """What an announcer is handed: a hub, a broker, and what it calls."""

    def __init__(self) -> None:
        self.delivered: list[tuple[int, int, bytes, Any]] = []
        self.inboxes: list[tuple[ChannelRef, str]] = []
        self.gone: list[ChannelRef] = []
        self.hub = Hub(asyncio.get_running_loop(), RecentBudget(messages=10, size=1000, total=1000))
        self.announcer = Announcer(
            self.hub,
            NullBroker(),
            deliver=lambda *message: self.delivered.append(message),
            meet_inbox=lambda ref, epoch, frame: self.inboxes.append((ref, epoch)),
            log_gone=self.gone.append,
        )


@pytest.fixture
async def node() -> Node:
    """A loop's parts."""
    return Node()


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """What the signal tells."""
    found: list[Any] = []

    def note(messages: list[Any], **_: Any) -> None:
        found.extend(messages)

    message_published.connect(note)
    yield found
    message_published.disconnect(note)


async def test_new_messages_are_delivered_counted_and_told(node: Node, heard: list[Any]) -> None:
    again, refused = entry(HALL, 1), entry(HALL)
    again.duplicate, refused.error = True, BusError(ErrorCode.UNAVAILABLE)
    node.announcer.committed([entry(HALL, 2), again, refused, entry(BOB, 1)])
    assert [message[:2] for message in node.delivered] == [(7, 2), (10, 1)]
    assert node.inboxes == [(BOB, "epoch")]
    assert heard == [(HALL.address, 2, b'{"seq":2}'), (BOB.address, 1, b'{"seq":1}')]
    assert (node.announcer.published, node.announcer.passed, node.gone) == (2, 0, [])


async def test_a_channel_that_turned_out_to_be_deleted_is_forgotten(node: Node) -> None:
    refused = entry(HALL)
    refused.error = BusError(ErrorCode.CHANNEL_NOT_FOUND)
    node.announcer.committed([refused])
    assert (node.gone, node.delivered) == ([HALL], [])


async def test_an_ephemeral_message_reaches_members_once_by_whichever_way(node: Node) -> None:
    stream = node.hub.open(FLEETING.id, *FLEETING.address, "epoch", 0)
    node.announcer.passed_by(entry(FLEETING, key="alice/1"))
    heard = (
        EphemeralFrame(8, b"again", "alice/1"),
        EphemeralFrame(8, b"other", "alice/2"),
        EphemeralFrame(8, b"nameless"),
    )
    node.announcer.receive_ephemeral(EphemeralPublished(list(heard)))
    assert [waiting.frame for waiting in stream.pending] == [b'{"seq":0}', b"other", b"nameless"]
    # What was heard from others is theirs to count.
    assert (node.announcer.published, node.announcer.passed) == (1, 1)


async def test_messages_of_other_threads_of_this_process_are_counted_here(node: Node) -> None:
    node.announcer.count(Published([CommittedMessage(7, "lab", "hall", "epoch", 1, b"")]))
    node.announcer.count(EphemeralPublished([EphemeralFrame(8, b"x"), EphemeralFrame(8, b"y")]))
    node.announcer.own += 1
    assert (node.announcer.published, node.announcer.passed, node.announcer.client_messages) == (3, 2, 2)


class Publisher:
    """The connection that a private message came from."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def send(self, frame: bytes) -> None:
        """Note a frame."""
        self.told.append(json.loads(frame))

    def error(self, problem: BusError, request_id: str | None) -> None:
        """Note an error."""
        self.told.append((problem.code, request_id))


def answered(ack: bool, *copies: Entry, unknown: tuple[str, ...] = ()) -> list[Any]:
    """What a publisher is told of a private message with these copies."""
    publisher = Publisher()
    inbound = Inbound(KIND_PRIVATE, "private", "m1", ack=ack)
    answer = Answer(publisher, Plan(inbound, [copy.context for copy in copies], unknown, ("carol",)))
    for copy in copies:
        assert publisher.told == []
        answer.done(copy)
    return publisher.told


@pytest.mark.pure
def test_a_private_message_has_one_answer() -> None:
    (one,) = answered(True, entry(BOB, 3))
    assert (one["request_id"], one["channel"], one["seq"], "targets" in one) == ("m1", "bob", 3, False)
    (both,) = answered(True, entry(BOB, 3), entry(CAROL, 5))
    assert (both["channel"], both["seq"], both["targets"]) == ("*", None, {"bob": 3, "carol": 5})
    # Two were asked for, though one is unknown.
    (part,) = answered(True, entry(BOB, 3), unknown=("nobody",))
    assert part["targets"] == {"bob": 3}
    assert answered(False, entry(BOB, 3), entry(CAROL, 5)) == []


@pytest.mark.pure
def test_an_error_of_a_copy_is_the_answer_also_without_an_ack() -> None:
    refused = entry(CAROL)
    refused.error = BusError(ErrorCode.UNAVAILABLE)
    assert answered(False, entry(BOB, 3), refused) == [(ErrorCode.UNAVAILABLE, "m1")]


@pytest.mark.pure
def test_it_is_a_duplicate_if_all_copies_are() -> None:
    first, second = entry(BOB, 3), entry(CAROL, 5)
    first.duplicate = True
    (partly,) = answered(True, first, second)
    assert "duplicate" not in partly
    second.duplicate = True
    (whole,) = answered(True, first, second)
    assert whole["duplicate"] is True
    assert published(second, unproven=True).unproven
