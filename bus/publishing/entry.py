"""Step 2, entry: a message becomes one :class:`~bus.log.Entry` for each log that it goes into."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from ..auth.permissions import Actor
from ..directory.channels import ChannelRef
from ..log import Effect, Entry
from ..protocol import frames
from ..protocol.inbound import Inbound
from ..protocol.routing import delivered_type
from .amending import amending_of
from .jobs import job_of
from .questions import answer_of, question_of
from .streamed import Owner, append_entry, effect_of


class Uids:
    """Makes new ``arq_…`` ids for messages without an id. Each thread needs its own object."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = f"arq_{secrets.token_hex(7)}"
        self._count = 0

    def __call__(self) -> str:
        """The next id."""
        self._count += 1
        return f"{self._prefix}{self._count:x}"


def random_uid() -> str:
    """A new random ``arq_…`` id. Any thread may call this."""
    return f"arq_{secrets.token_hex(16)}"


def entries(
    inbound: Inbound,
    refs: Sequence[ChannelRef],
    sender: str,
    new_uid: Callable[[], str],
    *,
    owner: str = "",
    exclude: Any = None,
    done: Callable[[Entry], None] | None = None,
    actor: Actor | None = None,
    connected: bool = True,
) -> list[Entry]:
    """The entries of a message from client ``sender``, one for each of ``refs``. The bytes that they share are built once.

    ``new_uid`` makes the id of a message without one. ``owner`` is the principal or address that the waiting entries count for.
    ``exclude`` is the sender's own connection. It gets no copy, unless it asked for one or is a target. ``done`` is called with
    each entry when its result is known. ``actor`` is who publishes, and ``connected`` whether that is a connection; both
    matter to streamed messages and to questions. Raises ``BusError`` VALIDATION_ERROR or STREAM_NOT_FOUND for one that cannot be
    in its channel.
    """
    effect: Effect | None = None
    who = None
    if inbound.append is not None or inbound.stream is not None or inbound.steer is not None or inbound.ask is not None:
        who = Owner(sender, rest=not connected)
        if actor is not None:
            who = Owner(sender, actor.principal, rest=not connected, unlimited=actor.system)
        if inbound.append is not None:
            return [
                append_entry(inbound, inbound.append, ref, who, counts_for=owner, exclude=exclude, done=done)
                for ref in refs
            ]
        effect = effect_of(inbound, refs, who)
    message_id = inbound.id
    if inbound.echo:
        exclude = None
    tail = frames.message_tail(inbound)
    made: list[Entry] = []
    for ref in refs:
        address = ref.address
        private = address.is_inbox
        kind = delivered_type(inbound.type, address) if private else inbound.type
        if message_id:
            uid, key = frames.message_uid(message_id), frames.publish_key(sender, message_id, address)
        else:
            uid, key = new_uid(), None
        if who is not None and inbound.ask is not None:
            effect, keys = question_of(inbound, inbound.ask, refs, who, uid)
            tail = keys + tail
        elif inbound.asked is not None:
            effect, keys = answer_of(inbound, inbound.asked)
            tail = keys + tail
        elif inbound.amended is not None:
            effect, keys = amending_of(inbound, inbound.amended, ref, sender, actor, connected=connected)
            tail = keys + tail
        does = effect if ref.work is None else job_of(inbound, effect)
        head = frames.message_head(uid, kind, address, sender)
        without = None if private and address.channel == sender else exclude
        made.append(Entry(ref.id, head, tail, uid, kind, sender, key, done, without, ref, message_id, owner, does))
    return made
