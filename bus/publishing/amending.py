"""Amendments on the way of every message: which message they change, and what they do in the log.

An amendment has an address, as every message. The message that it changes is looked up first (``directory.messages``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..auth.permissions import Actor
from ..directory.channels import ChannelRef
from ..directory.messages import find_amended
from ..log.amend_effects import Amending
from ..protocol import amending
from ..protocol.errors import BusError
from ..protocol.inbound import KIND_AMEND, Amend, Amended, Inbound
from ..protocol.names import Address
from ..protocol.routing import Route
from .plan import at, place_of


def amending_of(
    inbound: Inbound, amended: Amended, ref: ChannelRef, sender: str, actor: Actor | None, *, connected: bool
) -> tuple[Amending, bytes]:
    """What an amendment does, and the keys that only a delivered amendment has."""
    amend: Amend = inbound.amend  # type: ignore[assignment] # the kind has one
    principal = actor.principal if actor is not None else ""
    audit = None
    if amended.others and actor is not None and not actor.system:
        audit = {
            "actor": sender,
            "principal": principal,
            "door": "socket" if connected else "rest",
            "action": f"{amend.do}_message",
            "target": str(ref.address),
            "details": {"of": amend.of, "seq": amended.seq},
        }
    effect = Amending(amend.of, amended.seq, amend.do, sender, principal, reaction=amend.reaction, audit=audit)
    return effect, amending.amendment_keys(amend, amended.seq)


def placed(frames_in: Sequence[Inbound], routes: Sequence[Route], actor: Actor, initial: Address | None) -> list[Route]:
    """The routes of messages, with those of amendments to their channels. Raises ``BusError`` as ``plan.route``."""
    return [
        place_of(inbound, actor, initial) if inbound.kind == KIND_AMEND else route
        for inbound, route in zip(frames_in, routes, strict=True)
    ]


def look_up(
    frames_in: Sequence[Inbound],
    addresses: Sequence[Sequence[Address]],
    refs: Mapping[Address, ChannelRef],
    actor: Actor,
) -> None:
    """Find the message that each amendment changes. Costs queries for each one.

    Raises ``BusError`` as ``find_amended``. With several messages, its details have the ``index`` of the refused one.
    """
    for index, (inbound, some) in enumerate(zip(frames_in, addresses, strict=True)):
        if inbound.amend is None:
            continue
        try:
            inbound.amended = find_amended(actor, refs[some[0]], inbound.amend)
        except BusError as problem:
            raise problem if len(frames_in) == 1 else at(problem, index) from None
