"""The command ``erase_message``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..protocol.appends import LONGEST_UID
from ..protocol.errors import ErrorCode
from ..protocol.routing import resolve
from ..services import erasing
from ..shapes import ErasedMessages
from .base import LOOK, Answer, Context, Parameters, command


class EraseParameters(Parameters):
    """Parameters of ``erase_message``: a channel, and the ``seq`` or the ``id`` of one of its messages."""

    room: Annotated[str | None, Meta(description="Room, or room:channel.")] = None
    channel: Annotated[str | None, Meta(description="Channel, or room:channel.")] = None
    seq: Annotated[Annotated[int, Meta(ge=1, le=2**63 - 1)] | None, Meta(description="The seq of the message.")] = None
    id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LONGEST_UID)] | None, Meta(description="The id of the message.")
    ] = None


@command(
    "erase_message",
    EraseParameters,
    ErasedMessages,
    errors=(ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.INVALID_NAME),
    cost=LOOK,
)
async def erase_message(context: Context, parameters: EraseParameters) -> Answer:
    """Erase the content of a message and of its amendments for ever. This needs the right to manage the channel."""
    room, channel = context.named(parameters.room, parameters.channel)
    address = resolve(room, channel, context.initial)
    erased = await context.process.run_writer(
        lambda: erasing.erase_message(address, seq=parameters.seq, id=parameters.id, actor=context.actor, door="socket")
    )
    return Answer(f"Erased {erased.messages} messages of {address}", erased)
