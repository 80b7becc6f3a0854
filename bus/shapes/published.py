"""What a publisher learns of its message."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from .base import Shape
from .streams import StreamPlace


class Published(Shape, frozen=True):
    """The position of a published message. ``bus.services.publish`` and REST return it."""

    id: Annotated[str, Meta(description="Id of the delivered message.")]
    room: str
    channel: str
    seq: Annotated[
        int | None,
        Meta(
            description="Position in the log; null on ephemeral channels, and inside a transaction with `durable=False`."
        ),
    ]
    duplicate: Annotated[
        bool, Meta(description="The message was published before; `seq` is that of the first publish.")
    ] = False
    unproven: Annotated[
        bool,
        Meta(
            description="The target of this private message is disconnected. It gets the message only with its resume token."
        ),
    ] = False
    stream: (
        Annotated[StreamPlace, Meta(description="For an opening, an append or an end: the streamed message.")]
        | UnsetType
    ) = UNSET
    steered: (
        Annotated[bool, Meta(description="For a steer: whether the streamed message was still open.")] | UnsetType
    ) = UNSET
    kept: (
        Annotated[bool, Meta(description="False for a message that a gate of the project swallowed: it is in no log.")]
        | UnsetType
    ) = UNSET


class Delivery(Shape, frozen=True, kw_only=True):
    """The positions of the messages of a batch, or of the copies of a private message, in order."""

    results: list[Published]
    unknown_targets: Annotated[list[str], Meta(description="The unknown targets. The other targets got the message.")]
