"""The commands for streamed messages: stop one, and adopt one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ..protocol.appends import LONGEST_UID
from ..protocol.errors import BusError, ErrorCode
from ..protocol.routing import resolve
from ..protocol.values import is_printable
from ..services import growing
from ..shapes import AdoptedStream, StoppedStream
from .base import LOOK, Answer, Context, Parameters, command


class StreamParameters(Parameters):
    """A streamed message."""

    of: Annotated[
        str, Meta(max_length=LONGEST_UID, description="Id of the opening message, which names the streamed message.")
    ] = ""

    def named(self) -> str:
        """The id of the streamed message. Raises ``BusError`` VALIDATION_ERROR without a valid one."""
        if not is_printable(self.of, LONGEST_UID):
            message = "`of` must be the id of a streamed message."
            raise BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "of", "message": message}])
        return self.of


class StopParameters(StreamParameters):
    """Parameters of ``stop_stream``."""


@command(
    "stop_stream",
    StopParameters,
    StoppedStream,
    errors=(ErrorCode.STREAM_NOT_FOUND, ErrorCode.FORBIDDEN),
    cost=LOOK,
)
async def stop_stream(context: Context, parameters: StopParameters) -> Answer:
    """Ask the owner of a streamed message to stop. This needs the right to publish in its channel."""
    of = parameters.named()
    stopped = await context.process.run_writer(lambda: growing.stop_stream(of, actor=context.actor, door="socket"))
    return Answer(f"{'Stopping' if stopped.stopping else 'Stopped'} {of}", stopped)


class AdoptParameters(StreamParameters):
    """Parameters of ``adopt_stream``."""

    room: Annotated[
        str | None,
        Meta(description="Room, or room:channel, of the message. A message of another channel is not found."),
    ] = None
    channel: Annotated[str | None, Meta(description="Channel, or room:channel, of the message.")] = None
    keep: Annotated[bool, Meta(description="Keep the parts so far. With false the message starts over.")] = True


@command(
    "adopt_stream",
    AdoptParameters,
    AdoptedStream,
    errors=(ErrorCode.STREAM_NOT_FOUND, ErrorCode.STREAM_ENDED, ErrorCode.FORBIDDEN, ErrorCode.INVALID_NAME),
    cost=LOOK,
)
async def adopt_stream(context: Context, parameters: AdoptParameters) -> Answer:
    """Become the owner of an open streamed message of your own identity."""
    of = parameters.named()
    room, channel = context.named(parameters.room, parameters.channel)
    address = resolve(room, channel, context.initial) if room or channel else None
    adopted = await context.process.run_writer(
        lambda: growing.adopt_stream(of, keep=parameters.keep, address=address, actor=context.actor, door="socket")
    )
    return Answer(f"Adopted {of}", adopted)
