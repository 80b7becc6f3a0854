"""Messages: find the one that an amendment changes, and whose it is."""

from __future__ import annotations

from datetime import datetime

from ..auth.permissions import MANAGE, Actor, can
from ..log.amend_batch import message_not_found
from ..models import Amendment, Client, Message
from ..protocol.amending import DELETE, EDIT
from ..protocol.errors import BusError, ErrorCode
from ..protocol.growing import STREAM_END
from ..protocol.inbound import Amend, Amended
from .channels import ChannelRef

#: The newest messages of a channel among which one without a ``seq`` is searched. No index has the ids of messages.
SEARCHED = 10_000


def find_amended(actor: Actor, ref: ChannelRef, amend: Amend) -> Amended:
    """Return the message of the channel ``ref`` that ``actor`` may amend as ``amend`` says.

    Everybody who may publish reacts. Who sent a message edits and deletes it, and so does who manages the channel.

    Raises ``BusError`` MESSAGE_NOT_FOUND, FORBIDDEN, or VALIDATION_ERROR where nothing can be amended.
    """
    if ref.ephemeral or ref.work is not None or ref.address.is_inbox:
        raise _invalid("Only a message of a channel or room that stores it for all members can be amended.")
    row = find_row(ref.id, amend.of, amend.of_seq)
    if row is None:
        raise message_not_found(amend.of)
    seq, kind, sender, at = row
    if kind == STREAM_END or Amendment.objects.filter(channel_id=ref.id, seq=seq).exists():
        raise _invalid("An amendment and the end of a stream cannot be amended.")
    if amend.do not in (EDIT, DELETE) or owns(actor, sender, at):
        return Amended(seq)
    if not can(actor, MANAGE, ref.address, private=ref.private):
        text = "This is not your message. Changing it needs the right to manage the channel."
        raise BusError(ErrorCode.FORBIDDEN, text, [{"action": MANAGE, "of": amend.of}])
    return Amended(seq, others=True)


def find_row(channel_id: int, uid: str, seq: int | None) -> tuple[int, str, str, datetime] | None:
    """Return the seq, type, sender and time of the message ``uid`` of a channel, or None.

    Without its ``seq`` it is searched among the newest messages.
    """
    rows = Message.objects.filter(channel_id=channel_id, uid=uid).order_by("-seq")
    if seq is not None:
        rows = rows.filter(seq=seq)
    else:
        newest = Message.objects.filter(channel_id=channel_id).order_by("-seq").values_list("seq", flat=True).first()
        rows = rows.filter(seq__gt=(newest or 0) - SEARCHED)
    return rows.values_list("seq", "type", "sender", "created_at").first()


def owns(actor: Actor, sender: str, at: datetime) -> bool:
    """Return whether a message that ``sender`` sent at a time is ``actor``'s own: by its client id, or by its principal.

    An earlier owner of the id may have sent it. Then it is not.
    """
    if actor.system:
        return True
    row = Client.objects.filter(client_id=sender).values_list("principal", "proven_since", "generated").first()
    if row is None:
        return False
    principal, since, generated = row
    if not actor.anonymous and principal == actor.principal:
        return generated or at >= since
    return bool(actor.client_id) and sender == actor.client_id and at >= since


def _invalid(message: str) -> BusError:
    return BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": "of", "message": message}])
