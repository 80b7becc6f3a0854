"""Messages, as members and readers get them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from .base import Object, Page, Seq, Shape, WireTime


class Amended(Shape, frozen=True, kw_only=True):
    """Which amendment changed a message, when, and by whom."""

    seq: Seq
    at: WireTime
    by: str


class Message(Shape, frozen=True, kw_only=True):
    """A delivered message: event, private, system, telemetry, or a type of the sender's own."""

    version: Literal["1.0"]
    id: Annotated[str, Meta(pattern="^arq_")]
    type: str
    room: str
    channel: Annotated[str, Meta(description="The channel; * for a message to the whole room.")]
    from_: Annotated[str, Meta(description="The real client_id of the sender.")] = field(name="from")
    timestamp: WireTime
    seq: Seq | UnsetType = UNSET
    payload: Object
    message: Any | UnsetType = UNSET
    metadata: Object | UnsetType = UNSET
    stream: (
        Annotated[Object, Meta(description="In an opening: the `mode`. In an end: `mode`, `state` and `parts`.")]
        | UnsetType
    ) = UNSET
    steer: Annotated[str, Meta(description="Id of the streamed message that it steers.")] | UnsetType = UNSET
    of: (
        Annotated[
            str, Meta(description="In a `stream_end`: id of the opening message. In an amendment: of its message.")
        ]
        | UnsetType
    ) = UNSET
    of_seq: Annotated[int, Meta(description="The seq of the message with the id `of`.")] | UnsetType = UNSET
    do: (
        Annotated[Literal["edit", "delete", "react", "unreact"], Meta(description="What an amendment does.")]
        | UnsetType
    ) = UNSET
    edits: (
        Annotated[list[Literal["message", "payload"]], Meta(description="In an edit: the keys that it gives.")]
        | UnsetType
    ) = UNSET
    reaction: Annotated[str, Meta(description="In an amendment: the reaction.")] | UnsetType = UNSET
    untaken: (
        Annotated[list[str], Meta(description="In a `stream_end`: ids of steers that the owner did not take.")]
        | UnsetType
    ) = UNSET
    parts: Annotated[list[Any], Meta(description="In a `stream_end` of mode `parts`: all parts.")] | UnsetType = UNSET
    ask: (
        Annotated[Object, Meta(description="In a question: its `timeout` in seconds, and whether it is `durable`.")]
        | UnsetType
    ) = UNSET
    reply_to: Annotated[str, Meta(description="In a question: the client that the reply goes to.")] | UnsetType = UNSET
    correlation: Annotated[str, Meta(description="In a question and its reply: the asker's own mark.")] | UnsetType = (
        UNSET
    )
    to_message: Annotated[str, Meta(description="In a reply: id of the question.")] | UnsetType = UNSET
    error: Annotated[str, Meta(description="In a reply: why there is no answer.")] | UnsetType = UNSET
    traceparent: Annotated[str, Meta(description="The trace context, in the form of the W3C.")] | UnsetType = UNSET
    tracestate: str | UnsetType = UNSET
    client_timestamp: str | UnsetType = UNSET
    event_type: Any | UnsetType = field(name="eventType", default=UNSET)
    source: Any | UnsetType = UNSET
    unreadable: (
        Annotated[
            Literal[True],
            Meta(description="An older version stored the message in an unreadable form. `payload` is empty."),
        ]
        | UnsetType
    ) = UNSET
    edited: Annotated[Amended, Meta(description="Folded: the newest edit.")] | UnsetType = UNSET
    deleted: Annotated[Amended, Meta(description="Folded: the delete. No content is left.")] | UnsetType = UNSET
    reactions: (
        Annotated[dict[str, list[str]], Meta(description="Folded: the reactions, each with its clients.")] | UnsetType
    ) = UNSET
    erased: Annotated[Literal[True], Meta(description="The content was erased.")] | UnsetType = UNSET


class MessageList(Page[Message], frozen=True, kw_only=True):
    """A page of messages. With a filter a page may be shorter than `limit` and still have a next page."""


class ErasedMessages(Shape, frozen=True, kw_only=True):
    """How many messages were erased, with the amendments and everything else that belongs to the message."""

    messages: Annotated[int, Meta(ge=0, description="0: it was erased before.")]
