"""The command ``mark``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .. import shapes
from ..protocol.errors import BusError, ErrorCode
from ..services.marking import shape_of
from .base import Answer, Context, command
from .channels import ChannelParameters, target


class MarkParameters(ChannelParameters):
    """Parameters of ``mark``."""

    seq: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
        Meta(description="The last message that you have dealt with; 0: none. It is required."),
    ] = None
    back: Annotated[bool, Meta(description="Let the mark go back, too.")] = False
    begin: Annotated[
        bool,
        Meta(
            description="Only begin: a mark that exists stays. A new mark of an inbox lies before the oldest open question."
        ),
    ] = False
    epoch: Annotated[str | None, Meta(description="The epoch that `seq` belongs to. Another one is refused.")] = None


@command(
    "mark",
    MarkParameters,
    shapes.Mark,
    errors=(ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.INVALID_NAME, ErrorCode.LIMIT_REACHED),
    beside=True,
)
async def mark(context: Context, parameters: MarkParameters) -> Answer:
    """Note how far you have dealt with a channel, or with your inbox (room pm). The mark survives the connection."""
    if parameters.seq is None:
        message = "`seq` is missing."
        raise BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "seq", "message": message}])
    address = target(context, parameters)
    marked = await context.process.mark(
        address, parameters.seq, back=parameters.back, epoch=parameters.epoch, begin=parameters.begin
    )
    return Answer(f"Marked {address} at {marked.seq}", shape_of(address, marked))
