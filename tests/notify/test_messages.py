"""Notifications: which groups they are for, and their form on the layer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from channels.layers import InMemoryChannelLayer
from hypothesis import given
from hypothesis import strategies as st

from bus.notify.messages import (
    INLINE_BYTES,
    AccessChanged,
    ChannelChanged,
    CommittedMessage,
    Dismiss,
    EndedQuestion,
    EphemeralFrame,
    EphemeralPublished,
    Erased,
    Notification,
    PartRow,
    PresenceNotice,
    Published,
    QuestionsEnded,
    StreamParts,
    StreamSignal,
    WorkChange,
    WorkChanged,
    WorkReady,
    from_layer,
    size_of,
    to_layer,
    unrecoverable_frames,
)
from bus.notify.seal import seal
from bus.notify.topics import CONTROL, by_topic, channel_topic, client_topic
from bus.protocol.amending import ErasedMessage
from bus.protocol.errors import ErrorCode
from bus.protocol.names import INBOX_ROOM

pytestmark = pytest.mark.pure

IDS = st.integers(1, 2**40)
FRAMES = st.binary(max_size=50)
COMMITTED = st.builds(
    CommittedMessage, IDS, st.sampled_from(["lab", INBOX_ROOM]), st.just("bench"), st.just("e1"), IDS, FRAMES
)
EPHEMERAL = st.builds(EphemeralFrame, IDS, FRAMES, st.text(max_size=5))
INBOXES = st.sampled_from(["", "agent-1", "agent-2"])
PARTS = st.builds(PartRow, IDS, st.just("arq_a1"), IDS, IDS, FRAMES, INBOXES)
EVENTS = st.sampled_from(["opened", "reset", "stop", "steer"])
CHANGES = st.builds(
    WorkChange, IDS, st.just("done"), IDS, IDS, st.none() | st.text(max_size=9), st.just("2026-01-01T00:00:00.000Z")
)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "published": st.builds(Published, st.lists(COMMITTED, min_size=1, max_size=4)),
    "ephemeral": st.builds(EphemeralPublished, st.lists(EPHEMERAL, min_size=1, max_size=4)),
    "notice": st.builds(PresenceNotice, IDS, FRAMES),
    "changed": st.builds(ChannelChanged, st.text(max_size=9), st.text(max_size=9), IDS),
    "access": st.builds(AccessChanged, st.text(max_size=9), IDS),
    "parts": st.builds(StreamParts, st.lists(PARTS, min_size=1, max_size=4)),
    "signal": st.builds(
        StreamSignal,
        EVENTS,
        *(st.text(max_size=9), IDS, IDS, IDS, st.text(max_size=9), IDS, IDS, st.text(max_size=9), st.text(max_size=9)),
        INBOXES,
        FRAMES,
        IDS,
    ),
    "ready": st.builds(WorkReady, st.lists(st.tuples(IDS, IDS), min_size=1, max_size=4)),
    "work": st.builds(WorkChanged, st.lists(CHANGES, min_size=1, max_size=4)),
    "ended": st.builds(
        QuestionsEnded,
        st.lists(
            st.builds(EndedQuestion, IDS, st.text(max_size=9), st.text(max_size=9), FRAMES), min_size=1, max_size=4
        ),
    ),
    "erased": st.builds(
        Erased,
        IDS,
        INBOXES,
        st.lists(st.builds(ErasedMessage, IDS, st.text(max_size=9), IDS, st.just("edit")), min_size=1, max_size=4),
    ),
    "dismiss": st.builds(Dismiss, st.text(), st.text(), st.just(4403), st.sampled_from(ErrorCode), st.text()),
}
NOTIFICATIONS = st.one_of(*KINDS.values())


@given(st.lists(NOTIFICATIONS, max_size=6))
def test_notifications_cross_the_layer_as_they_are(notifications: list[Notification]) -> None:
    message = to_layer(notifications, "specific.abc!def")
    assert message["sender"] == "specific.abc!def"
    assert from_layer(message) == notifications


@given(NOTIFICATIONS)
def test_every_part_goes_to_the_topic_of_its_channel_or_client_and_none_is_lost(notification: Notification) -> None:
    parts = list(by_topic(notification))
    assert len({topic for topic, _ in parts}) == len(parts)
    assert sum(unrecoverable_frames(part) for _, part in parts) == unrecoverable_frames(notification)
    assert sum(size_of(part) for _, part in parts) == size_of(notification) > 0
    for topic, part in parts:
        assert topics_of(part) == {topic}
        assert type(part) is type(notification)


def topics_of(part: Notification) -> set[str]:
    """The topics that its rows are for."""
    if isinstance(part, Published):
        return {
            client_topic(row.channel) if row.room == INBOX_ROOM else channel_topic(row.channel_id)
            for row in part.messages
        }
    if isinstance(part, StreamParts):
        return {client_topic(row.inbox) if row.inbox else channel_topic(row.channel_id) for row in part.parts}
    if isinstance(part, QuestionsEnded):
        return {client_topic(row.client_id) for row in part.questions}
    if isinstance(part, Dismiss) or (isinstance(part, StreamSignal) and part.event in ("stop", "steer")):
        return {client_topic(part.client_id)}
    if isinstance(part, StreamSignal | Erased):
        return {client_topic(part.inbox) if part.inbox else channel_topic(part.channel_id)}
    if isinstance(part, EphemeralPublished):
        return {channel_topic(row.channel_id) for row in part.frames}
    if isinstance(part, WorkChanged):
        return {channel_topic(row.channel_id) for row in part.changes}
    return {channel_topic(part.channel_id)} if isinstance(part, PresenceNotice) else {CONTROL}


@given(st.text(max_size=200), st.integers(1, 2**63))
def test_every_layer_takes_the_names_of_topics(client_id: str, channel_id: int) -> None:
    layer = InMemoryChannelLayer()
    for topic in (CONTROL, client_topic(client_id), channel_topic(channel_id)):
        layer.require_valid_group_name(f"arqonbus.{topic}")


def test_frames_above_the_bound_are_left_for_the_log() -> None:
    large = b"x" * (INLINE_BYTES // 2 - 10)
    rows = [CommittedMessage(1, "lab", "bench", "e1", seq, large) for seq in range(1, 5)]
    received = from_layer(to_layer([Published(rows)], "me"))
    assert received is not None
    (published,) = received
    assert isinstance(published, Published)
    assert [len(row.frame) for row in published.messages] == [len(large), len(large), 0, 0]
    assert [row.seq for row in published.messages] == [1, 2, 3, 4]


def test_parts_and_notices_above_the_bound_are_left_for_the_database() -> None:
    large = b"x" * (INLINE_BYTES // 2 - 10)
    parts = StreamParts([PartRow(1, "arq_a1", 1, n, large) for n in range(1, 4)])
    steer = StreamSignal("steer", "arq_a1", 1, 2, 3, "text", 1, 0, "owner", "", "", large)
    received = from_layer(to_layer([parts, steer], "me"))
    assert received is not None
    told, asked = received
    assert isinstance(told, StreamParts)
    assert isinstance(asked, StreamSignal)
    assert [(row.n, len(row.frame)) for row in told.parts] == [(1, len(large)), (2, len(large)), (3, 0)]
    assert asked.frame == b""


def test_frames_that_no_log_has_are_never_left_out() -> None:
    large = EphemeralPublished([EphemeralFrame(1, b"x" * 2 * INLINE_BYTES)])
    assert from_layer(to_layer([large], "me")) == [large]


@pytest.mark.parametrize("foreign", [None, 5, [], {}, {"data": b""}, {"data": b"x" * 99}, {"data": {"a": 1}}])
def test_a_message_of_another_program_is_none_of_ours(foreign: object) -> None:
    assert from_layer(foreign) is None


def test_kinds_and_fields_of_a_later_version_do_not_hide_the_others() -> None:
    parts = [["zz", 1, 2], ["p", "no list"], ["f", [[7, b"frame"]], "a field of tomorrow"], 5, {"a": 1}]
    sealed = {"data": seal(msgspec.msgpack.encode(parts))}
    assert from_layer(sealed) == [EphemeralPublished([EphemeralFrame(7, b"frame")])]
    assert from_layer({"data": seal(msgspec.msgpack.encode(5))}) == []
