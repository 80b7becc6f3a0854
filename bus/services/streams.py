"""Streams: their states and contents, stop, adoption, and the end of streams whose owners are gone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from ..auth.permissions import Actor
from ..log import Entry, streamed
from ..log.effects import Snapshot, StreamState
from ..log.pages import Found


class Stopped(NamedTuple):
    """The result of a stop. ``ended`` is the entry of the end, if the server ended the stream at once."""

    state: StreamState
    ended: Entry | None


class Adopted(NamedTuple):
    """The result of an adoption: the stream in its new attempt, and the token that its appends need."""

    state: StreamState
    token: str


def state_of(of: str) -> StreamState | None:
    """Return the stream whose opening has the uid ``of``; None without such a stream."""
    return streamed.state_of(of)


def open_in(channel_ids: Collection[int]) -> list[StreamState]:
    """Return the open streams of some channels, in the order of their openings."""
    return streamed.open_in(channel_ids)


def moved_since(moment: datetime) -> list[StreamState]:
    """Return the streams that moved since ``moment``, as :func:`bus.log.streamed.streams_moved_since` says."""
    return streamed.streams_moved_since(moment)


def snapshot(stream_id: int) -> Snapshot | None:
    """Return a stream and its whole content, also after the end; None for a stream that is gone."""
    raise NotImplementedError


def request_stop(actor: Actor, of: str, *, door: str = "socket") -> Stopped:
    """Ask the owner of a stream to stop. Without an owner, end the stream at once.

    Raises ``BusError`` STREAM_NOT_FOUND, or FORBIDDEN without the right to publish in the stream's channel. A stream that
    has ended stays as it is.
    """
    raise NotImplementedError


def adopt(actor: Actor, of: str, *, keep: bool = True, door: str = "socket") -> Adopted:
    """Make ``actor`` the owner of an open stream. ``keep=False`` removes the content so far.

    Raises ``BusError`` STREAM_NOT_FOUND, STREAM_ENDED, or FORBIDDEN for another principal without the right to manage.
    """
    raise NotImplementedError


def end_overdue() -> list[Entry]:
    """End open streams whose owners are gone, idle for too long, or do not follow a stop. Return the entries of the ends.

    The settings ``stream_grace``, ``stream_rest_grace`` and ``stream_idle`` say when. The ends are announced.
    """
    raise NotImplementedError


def fold(messages: Sequence[Found], most_bytes: int) -> tuple[list[Found], int]:
    """Return a page of history in which each stream is one message, and how many of ``messages`` were handled.

    The frames have at most ``most_bytes`` together, unless it is a single frame: a text may be far larger than its opening.
    """
    raise NotImplementedError
