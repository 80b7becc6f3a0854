"""Frames that come without a socket (REST): each to where it is addressed, as a socket would send it on."""

from __future__ import annotations

from collections.abc import Sequence, Set

import msgspec
from django.db import IntegrityError

from ..auth.permissions import Actor
from ..directory.clients import known
from ..protocol.errors import BusError, ErrorCode, target_not_found
from ..protocol.inbound import KIND_PRIVATE, KIND_PUBLISH, Inbound
from ..protocol.names import EVERYONE, Address, inbox
from ..protocol.routing import private_targets, resolve
from .django import Published, publish_all


class Delivery(msgspec.Struct, frozen=True):
    """What became of frames that were published together: where each is, and the targets that nobody knows."""

    published: list[Published]
    unknown_targets: list[str]


def publish_frames(
    actor: Actor, frames_in: Sequence[Inbound], *, initial: Address | None = None, new_sender: bool = False
) -> Delivery:
    """Publish frames as a socket would (contract §4): events where they are addressed to, private ones to each inbox.

    ``initial`` is where a frame without an address goes; without it, such a frame is refused. ``new_sender`` is as for
    :func:`publish_all`. All or nothing: raises ``BusError`` VALIDATION_ERROR, INVALID_NAME, FORBIDDEN, CHANNEL_NOT_FOUND,
    UNKNOWN_TYPE, LIMIT_REACHED, BUSY, CLIENT_ID_IN_USE, and TARGET_NOT_FOUND when no target of any frame is known.
    """
    for attempt in (1, 2, 3):
        try:
            items, unknown, waiting = _routed(frames_in, initial, {actor.client_id} if new_sender else set())
            if unknown and not items:
                raise target_not_found(unknown, len(unknown))
            published = publish_all(items, actor=actor, may_wait=True, waiting=waiting, new_sender=new_sender)
            return Delivery(published, unknown)
        except IntegrityError:
            # Another process used one of the ids, or removed a channel, between our look and our insert.
            if attempt == 3:
                raise
    raise AssertionError("unreachable")


def _routed(
    frames_in: Sequence[Inbound], initial: Address | None, also: Set[str]
) -> tuple[list[tuple[Address, Inbound]], list[str], dict[str, bool]]:
    """Each frame with its address, private ones once for each known target; the unknown ones; what ``clients.known`` said.

    ``also`` are ids that come to be known with the frames.
    """
    items: list[tuple[Address, Inbound]] = []
    private: list[tuple[int, Inbound, list[str]]] = []
    for index, inbound in enumerate(frames_in):
        if inbound.kind == KIND_PRIVATE:
            targets = inbound.to
        elif inbound.kind != KIND_PUBLISH:
            raise BusError(
                ErrorCode.UNKNOWN_TYPE,
                f"A {inbound.type} frame is for the socket; here are events, private and system messages.",
                [{"index": index, "field": "type"}],
            )
        elif initial is None and not inbound.room and not inbound.channel:
            raise BusError(
                ErrorCode.VALIDATION_ERROR,
                details=[{"index": index, "field": "channel", "message": "Where to? Give `room` and `channel`."}],
            )
        else:
            address = resolve(inbound.room, inbound.channel, initial or Address("", ""))
            found = private_targets(inbound.channel, inbound.to, address)
            if found is None:
                items.append((address, inbound))
                continue
            targets = found
        if not targets:
            raise BusError(
                ErrorCode.VALIDATION_ERROR,
                details=[{"index": index, "field": "to", "message": "`to` is missing: a client_id or a list of them."}],
            )
        private.append((len(items), inbound, targets))
        items.append((EVERYONE, inbound))  # Replaced below.
    if not private:
        return items, [], {}
    wanted = {target for _, _, targets in private for target in targets}
    there = {**dict.fromkeys(also, False), **known(wanted)}
    for position, inbound, targets in reversed(private):
        items[position : position + 1] = [
            (inbox(target), msgspec.structs.replace(inbound)) for target in targets if target in there
        ]
    unknown = [target for _, _, targets in private for target in targets if target not in there]
    return items, list(dict.fromkeys(unknown)), there
