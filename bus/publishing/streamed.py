"""Streamed messages on the way of every message: what an opening, a part, an end or a steer does in the log.

A message with ``stream`` or ``steer`` is an ordinary message whose entry has an effect. An append has no address of its own:
its ``of`` names the stream, and the stream's channel is looked up first (``directory.streams``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from ..auth.permissions import PUBLISH, Actor, require
from ..conf.settings import config
from ..directory.channels import ChannelRef
from ..directory.streams import find_stream, stream_not_found
from ..log import Entry
from ..log.effects import Effect, Opening, Part, Steer, StreamState
from ..protocol import frames, growing
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Append, Inbound
from ..protocol.routing import Route
from ..shapes import StreamPlace


class Owner(NamedTuple):
    """The publisher of an opening or an append, as the stream remembers it.

    ``rest`` says that no connection shows whether it is still there. Such an owner finds open steers in each answer.
    ``unlimited`` owners may have any number of open streams, as the project's own code.
    """

    client_id: str
    principal: str = ""
    rest: bool = False
    unlimited: bool = False


def effect_of(inbound: Inbound, refs: Sequence[ChannelRef], owner: Owner) -> Effect | None:
    """What a message with ``stream`` or ``steer`` does. ``refs`` are the logs that it goes into.

    Raises ``BusError`` VALIDATION_ERROR or STREAM_NOT_FOUND. Such a message has one log, since ephemeral channels have no
    streams.
    """
    if not refs:
        return None
    if len(refs) > 1:
        raise invalid("steer" if inbound.stream is None else "stream", "Such a private message has one target.")
    (ref,) = refs
    if inbound.stream is not None:
        if ref.ephemeral:
            raise invalid("stream", "An ephemeral channel keeps no messages, so a message cannot grow there.")
        most = 0 if owner.unlimited else config().streams
        return Opening(inbound.stream, owner.client_id, owner.principal, rest=owner.rest, most=most)
    if inbound.steer is not None:
        # The owner of a private stream listens to its target alone.
        if ref.ephemeral or (ref.address.is_inbox and ref.address.channel != owner.client_id):
            raise stream_not_found(inbound.steer)
        return Steer(inbound.steer)
    return None


def invalid(field: str, message: str) -> BusError:
    """The error for one wrong key of a message."""
    return BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": message}])


def append_entry(
    inbound: Inbound,
    append: Append,
    ref: ChannelRef,
    owner: Owner,
    *,
    counts_for: str = "",
    exclude: Any = None,
    done: Callable[[Entry], None] | None = None,
) -> Entry:
    """The entry of an append to a stream in the channel ``ref``. With an ``end`` it becomes the message ``stream_end``.

    ``counts_for`` is the principal or address that the waiting entry counts for. ``exclude`` and ``done`` are those of
    ``entry.entries``.
    """
    part = Part(
        append.of,
        append.n,
        append.mode,
        append.data,
        owner.client_id,
        owner.principal,
        max_bytes=config().frame_bytes,
        end=append.end,
        payload=append.payload,
        took=append.took,
        token=append.token,
        wants_steers=owner.rest,
    )
    head, uid = b"", append.of
    if append.end is not None:
        uid = growing.end_uid(append.of, inbound.id)
        head = growing.stream_end_head(append.of, inbound.id, ref.address, owner.client_id)
    return Entry(
        ref.id,
        head,
        b"",
        uid,
        growing.STREAM_END,
        owner.client_id,
        None,
        done,
        exclude,
        ref,
        inbound.id,
        counts_for,
        part,
    )


def placed(frames_in: Sequence[Inbound], routes: Sequence[Route], actor: Actor) -> list[Route]:
    """The routes of messages, with those of appends to the channels of their streams.

    An append may follow its opening in the same batch. Queries once for each other stream. Raises ``BusError``
    STREAM_NOT_FOUND, or FORBIDDEN without the right to publish there.
    """
    opened: dict[str, Route] = {}
    found: list[Route] = []
    for inbound, route in zip(frames_in, routes, strict=True):
        if inbound.stream is not None and inbound.id:
            opened[frames.message_uid(inbound.id)] = route
        if inbound.append is None:
            found.append(route)
            continue
        of = inbound.append.of
        if of not in opened:
            opened[of] = Route(_publishable(actor, of).address)
        found.append(opened[of])
    return found


def _publishable(actor: Actor, of: str) -> ChannelRef:
    ref = find_stream(actor, of).ref
    require(actor, PUBLISH, ref.address, private=ref.private)
    return ref


def told(entry: Entry) -> bytes:
    """What the ack of an entry adds about a stream: JSON after the other keys, or nothing."""
    effect = entry.effect
    if isinstance(effect, Steer):
        return growing.steered_told(effect.steered)
    if effect is None or effect.stream is None:
        return b""
    stream = effect.stream
    untaken = effect.untaken if isinstance(effect, Part) else ()
    return growing.stream_told(
        stream.uid, stream.have, stream.state, stream.attempt, stopping=stream.stopping, untaken=untaken
    )


def place_of(entry: Entry) -> StreamPlace | msgspec.UnsetType:
    """The stream of a committed entry, for a publisher without a socket."""
    effect = entry.effect
    if effect is None or effect.stream is None or isinstance(effect, Steer):
        return UNSET
    place = stream_place(effect.stream)
    if isinstance(effect, Part):
        steers = [msgspec.Raw(frame) for frame in effect.steers]
        return msgspec.structs.replace(place, steers=steers, untaken=effect.untaken or UNSET)
    return place


def stream_place(stream: StreamState) -> StreamPlace:
    """A stream as answers show it to its owner."""
    return StreamPlace(
        of=stream.uid, have=stream.have, state=stream.state, attempt=stream.attempt, stopping=stream.stopping
    )


def steered(entry: Entry) -> bool | msgspec.UnsetType:
    """Whether a steer came while its stream was open; UNSET for other messages."""
    return entry.effect.steered if isinstance(entry.effect, Steer) else UNSET
