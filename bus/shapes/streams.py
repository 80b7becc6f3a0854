"""Streamed messages, for their owners and for readers."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from .base import Shape
from .messages import Message


class StreamPlace(Shape, frozen=True, kw_only=True):
    """A streamed message, as its owner needs it to go on."""

    of: Annotated[str, Meta(description="Id of the opening message, which names the stream.")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part that the bus keeps; 0: none.")]
    state: Annotated[str, Meta(pattern="^(open|complete|aborted|stopped)$")]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    stopping: Annotated[bool, Meta(description="Somebody asked the owner to stop.")]
    steers: (
        Annotated[list[Message], Meta(description="The messages that steer the stream and were not taken yet.")]
        | UnsetType
    ) = UNSET
    untaken: (
        Annotated[list[str], Meta(description="Ids of the steers that you had not taken when the message ended.")]
        | UnsetType
    ) = UNSET


class StoppedStream(Shape, frozen=True, kw_only=True):
    """A streamed message after a request to stop it."""

    of: Annotated[str, Meta(description="Id of the opening message.")]
    state: Annotated[str, Meta(pattern="^(open|complete|aborted|stopped)$")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part that the bus keeps.")]
    stopping: Annotated[bool, Meta(description="The owner was asked to stop, and has not ended the message yet.")]


class AdoptedStream(Shape, frozen=True, kw_only=True):
    """A streamed message with its new owner."""

    of: Annotated[str, Meta(description="Id of the opening message.")]
    mode: Annotated[str, Meta(pattern="^(text|parts)$")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part. The next one is `have` + 1.")]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    token: Annotated[str, Meta(description="Each append and the end must have this `token` from now on.")]
    stopping: Annotated[bool, Meta(description="Somebody asked the owner to stop.")]


class Stream(Shape, frozen=True, kw_only=True):
    """A streamed message as everybody sees it who may read it."""

    of: Annotated[str, Meta(description="Id of the opening message, which names the stream.")]
    room: str
    channel: str
    seq: Annotated[int, Meta(ge=1, description="Position of the opening message in the log.")]
    mode: Annotated[str, Meta(pattern="^(text|parts)$")]
    state: Annotated[str, Meta(pattern="^(open|complete|aborted|stopped)$")]
    have: Annotated[int, Meta(ge=0, description="Number of the newest part; 0: none.")]
    attempt: Annotated[int, Meta(ge=1, description="It grows with each adoption.")]
    stopping: Annotated[bool, Meta(description="Somebody asked the owner to stop, and the message is still open.")]
    steers: Annotated[int, Meta(ge=0, description="Number of the messages that steer it and were not taken yet.")]
    end_seq: Annotated[int | None, Meta(description="Position of the end in the log; null while the message is open.")]
