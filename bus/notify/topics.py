"""The topics of notifications: each process hears those of what its members are in, and what concerns everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from ..protocol.names import INBOX_ROOM
from .messages import (
    Dismiss,
    EphemeralPublished,
    Erased,
    Notification,
    PresenceNotice,
    Published,
    QuestionsEnded,
    StreamParts,
    StreamSignal,
    WorkChanged,
)

Row = TypeVar("Row")

#: The topic of all processes.
CONTROL = "control"


class Addressed(NamedTuple):
    """A notification and its topic."""

    topic: str
    notification: Notification


def channel_topic(channel_id: int) -> str:
    """The topic of a channel (in Channels' alphabet, under 100 characters, as all topics)."""
    return f"channel.{channel_id}"


def client_topic(client_id: str) -> str:
    """The topic of a client: its inbox, and what concerns its connection. The name does not show the id."""
    return f"client.{blake2b(client_id.encode(), digest_size=16).hexdigest()}"


def by_topic(notification: Notification) -> Iterator[Addressed]:
    """The topics that a notification is for, each with its part of the notification."""
    if isinstance(notification, Published):
        for topic, messages in _sorted(
            notification.messages,
            # An inbox comes into being with its first message, so nobody can follow it by its number.
            lambda row: client_topic(row.channel) if row.room == INBOX_ROOM else channel_topic(row.channel_id),
        ):
            yield Addressed(topic, Published(messages))
    elif isinstance(notification, EphemeralPublished):
        for topic, frames in _sorted(notification.frames, lambda row: channel_topic(row.channel_id)):
            yield Addressed(topic, EphemeralPublished(frames))
    elif isinstance(notification, StreamParts):
        for topic, parts in _sorted(notification.parts, lambda row: _place(row.channel_id, row.inbox)):
            yield Addressed(topic, StreamParts(parts))
    elif isinstance(notification, WorkChanged):
        for topic, changes in _sorted(notification.changes, lambda row: channel_topic(row.channel_id)):
            yield Addressed(topic, WorkChanged(changes))
    elif isinstance(notification, QuestionsEnded):
        for topic, questions in _sorted(notification.questions, lambda row: client_topic(row.client_id)):
            yield Addressed(topic, QuestionsEnded(questions))
    elif isinstance(notification, PresenceNotice):
        yield Addressed(channel_topic(notification.channel_id), notification)
    elif isinstance(notification, Dismiss) or (isinstance(notification, StreamSignal) and notification.for_owner):
        yield Addressed(client_topic(notification.client_id), notification)
    elif isinstance(notification, Erased | StreamSignal):
        yield Addressed(_place(notification.channel_id, notification.inbox), notification)
    else:
        yield Addressed(CONTROL, notification)


def _place(channel_id: int, inbox: str) -> str:
    return client_topic(inbox) if inbox else channel_topic(channel_id)


def _sorted(rows: Iterable[Row], topic_of: Callable[[Row], str]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each topic, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(topic_of(row), []).append(row)
    yield from found.items()
