"""Erase for the law: one message, or everything that a client sent. Tables, memory and later exports have no text of it then.

The log keeps the place of each message, so nothing that counts by its positions changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import Q

from .. import shapes
from ..auth.permissions import MANAGE, SYSTEM, Actor, checked, require
from ..directory.channels import find
from ..directory.messages import find_row
from ..log import erasures, streamed
from ..models import Channel, Client, Decision, Job, Message
from ..notify import dispatch
from ..notify.messages import Erased
from ..protocol.amending import ERASED_END
from ..protocol.asking import REPLY
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import EVERYONE, INBOX_ROOM, SERVER, Address
from ..protocol.routing import resolve
from . import audit, streams

#: Messages of one transaction, and of one notice to members.
STEP = 500

#: A message: the id of its channel, and its seq.
Place = tuple[int, int]


def erase_message(
    address: str | Address,
    *,
    seq: int | None = None,
    id: str | None = None,
    actor: Actor = SYSTEM,
    door: str = "django",
) -> shapes.ErasedMessages:
    """Erase the content of a message, by its ``seq`` or its ``id``, and everything that belongs to it.

    Its amendments go with it, and so do the whole stream, the result and the reply of its job, its dead letters and the
    arguments of its decision. The message keeps its place, id, sender and time, and has ``erased``. Members are told. ``door``
    is for the audit log. Erasing it again does nothing.

    Raises ``BusError`` CHANNEL_NOT_FOUND, MESSAGE_NOT_FOUND, VALIDATION_ERROR, INVALID_NAME, UNAVAILABLE while its stream is
    being written, or FORBIDDEN without the right to manage the channel.
    """
    place = address if isinstance(address, Address) else resolve(address, None, EVERYONE)
    ref = find(place)
    require(checked(actor), MANAGE, place, private=ref is None or ref.private)
    if ref is None:
        raise BusError(ErrorCode.CHANNEL_NOT_FOUND, f"There is no {place}.", [{"address": str(place)}])
    if (seq is None) is (id is None):
        raise BusError(ErrorCode.VALIDATION_ERROR, "Give the `seq` or the `id` of a message.", [{"field": "seq"}])
    if seq is None and id is not None:
        row = find_row(ref.id, id, None)
        seq = None if row is None else row[0]
    if seq is None or not Message.objects.filter(channel_id=ref.id, seq=seq).exists():
        raise BusError(ErrorCode.MESSAGE_NOT_FOUND, details=[{"of": id if seq is None else seq}])
    count = _erase(ref.id, [seq])
    audit.record(actor, door, "erase_message", str(place), seq=seq, messages=count)
    return shapes.ErasedMessages(messages=count)


def erase_client(client_id: str, *, inbox: bool = False, actor: Actor = SYSTEM, door: str = "django") -> int:
    """Erase everything that a client sent, in every channel and inbox, and what it says of itself. Return how many messages.

    With ``inbox``, the private messages to the client are erased too. The results that it gave to jobs are blanked. Each
    transaction erases some messages, so a second call goes on where a first one was interrupted. Raises ``BusError`` FORBIDDEN
    unless ``actor`` is an admin, and UNAVAILABLE as :func:`erase_message`.
    """
    if not checked(actor).manages:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may erase what a client sent.")
    wanted = Q(sender=client_id)
    if inbox:
        wanted |= Q(channel__in=Channel.objects.filter(room__name=INBOX_ROOM, name=client_id))
    count = 0
    for channel_id, seqs in _groups(wanted):
        count += _erase(channel_id, seqs)
    # The server's own messages that quote the client. What they are about may be pruned.
    for channel_id, seqs in _by_channel([*_erase_jobs(client_id), *_results_of_decisions(client_id)]).items():
        count += _erase(channel_id, seqs)
    with transaction.atomic():
        erasures.blank_decisions(Q(client_id=client_id))
        Client.objects.filter(client_id=client_id).update(
            screen_name="", avatar="", personality={}, card=None, status=None
        )
        audit.record(actor, door, "erase_client", client_id, messages=count, inbox=inbox)
    return count


def knows_of(client_id: str) -> bool:
    """Return whether there is a client with this id, or anything that it left, also if that is erased."""
    return any(
        rows.exists()
        for rows in (
            Client.objects.filter(client_id=client_id),
            Message.objects.filter(sender=client_id),
            Channel.objects.filter(room__name=INBOX_ROOM, name=client_id),
            Job.objects.filter(client_id=client_id),
            Decision.objects.filter(client_id=client_id),
        )
    )


def _groups(wanted: Q) -> Iterator[tuple[int, list[int]]]:
    """Yield the messages that are wanted, in groups of one log."""
    rows = Message.objects.filter(wanted).exclude(frame__endswith=ERASED_END.decode()).order_by("id")
    last = 0
    while True:
        found = list(rows.filter(id__gt=last).values_list("id", "channel_id", "seq")[:STEP])
        if not found:
            return
        last = found[-1][0]
        groups: dict[int, list[int]] = {}
        for _, channel_id, seq in found:
            groups.setdefault(channel_id, []).append(seq)
        yield from groups.items()


def _erase(channel_id: int, seqs: Collection[int]) -> int:
    """Erase messages of a log, and before them other messages that have their content. Return how many messages."""
    count = sum(_erase(place, some) for place, some in _copies(channel_id, seqs).items())
    for state in streamed.open_in([channel_id]):
        if state.seq in seqs:
            streams.end_now(state)
    with transaction.atomic():
        # By its own order the query would join the room, and lock it as well.
        list(Channel.objects.order_by().select_for_update(no_key=True).filter(pk=channel_id).values_list("pk"))
        rows = erasures.erase(channel_id, seqs)
        for start in range(0, len(rows), STEP):
            dispatch.notify_on_commit(Erased(channel_id, _owner_of(channel_id), rows[start : start + STEP]))
    return count + len(rows)


def _owner_of(channel_id: int) -> str:
    """The client id of an inbox; empty for a channel."""
    return Channel.objects.filter(pk=channel_id, room__name=INBOX_ROOM).values_list("name", flat=True).first() or ""


class _Failure(msgspec.Struct):
    by: str = ""


class _Dead(msgspec.Struct):
    room: str
    channel: str
    seq: int
    sender: str = msgspec.field(name="from", default="")
    errors: list[_Failure] = []


class _Metadata(msgspec.Struct):
    dead: _Dead


class _Letter(msgspec.Struct):
    metadata: _Metadata


class _Reply(msgspec.Struct):
    to_message: str


_letter = msgspec.json.Decoder(_Letter).decode
_reply = msgspec.json.Decoder(_Reply).decode


def _copies(channel_id: int, seqs: Collection[int]) -> dict[int, list[int]]:
    """Return the other messages with the content of jobs, by the ids of their channels: dead letters, and replies."""
    channel = Channel.objects.select_related("room").filter(pk=channel_id).first()
    if channel is None or (channel.work is None and not Job.objects.filter(channel=channel).exists()):
        return {}
    found: dict[int, list[int]] = {}
    # In every channel: the rule may have named another one for dead letters.
    start = msgspec.json.encode({"dead": {"room": channel.room.name, "channel": channel.name}}).decode().rstrip("}")
    for place, at, dead in _dead_letters(start.removeprefix("{")):
        if (dead.room, dead.channel) == (channel.room.name, channel.name) and dead.seq in seqs:
            found.setdefault(place, []).append(at)
    jobs = Message.objects.filter(channel=channel, seq__in=seqs).values_list("uid", "sender")
    askers: dict[str, set[str]] = {}
    for uid, sender in jobs:
        askers.setdefault(sender, set()).add(uid)
    for asker, uids in askers.items():
        replies = Message.objects.filter(channel__room__name=INBOX_ROOM, channel__name=asker, type=REPLY)
        for place, at, frame in replies.values_list("channel_id", "seq", "frame").iterator():
            if _told(_reply, frame, "to_message") in uids:
                found.setdefault(place, []).append(at)
    return found


def _dead_letters(part: str) -> Iterator[tuple[int, int, _Dead]]:
    """Yield the dead letters with a text in their frames: the id of the channel, the seq, and what it says of its job."""
    rows = Message.objects.filter(sender=SERVER, frame__contains=part).values_list("channel_id", "seq", "frame")
    for channel_id, seq, frame in rows.iterator():
        metadata = _told(_letter, frame, "metadata")
        if metadata is not None:
            yield channel_id, seq, metadata.dead


def _told(decode: Callable[[str], Any], frame: str, key: str) -> Any:
    """Return the value of a key of a frame; None for a frame of another kind."""
    try:
        return getattr(decode(frame), key)
    except msgspec.DecodeError:
        return None


def _erase_jobs(client_id: str) -> Iterator[Place]:
    """Blank what a client said of its jobs, and yield the places of the dead letters that quote it or its messages."""
    Job.objects.filter(client_id=client_id).exclude(state=Job.State.CLAIMED).update(result="")
    for pk in Job.objects.exclude(errors=[]).values_list("pk", flat=True):
        with transaction.atomic():
            job = Job.objects.select_for_update(no_key=True).filter(pk=pk).first()
            if job is not None and any(failure.get("by") == client_id for failure in job.errors):
                job.errors = [
                    {**failure, "error": ""} if failure.get("by") == client_id else failure for failure in job.errors
                ]
                job.save(update_fields=["errors"])
    for channel_id, seq, dead in _dead_letters(f":{msgspec.json.encode(client_id).decode()}"):
        if dead.sender == client_id or any(failure.by == client_id for failure in dead.errors):
            yield channel_id, seq


def _results_of_decisions(client_id: str) -> Iterator[Place]:
    """Yield the places of the messages that tell how decisions of a client ended."""
    rows = Decision.objects.filter(client_id=client_id, made_seq__isnull=False)
    for channel_id, seq in rows.values_list("channel_id", "made_seq"):
        if seq is not None and Message.objects.filter(channel_id=channel_id, seq=seq).exists():
            yield channel_id, seq


def _by_channel(places: Iterable[Place]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for channel_id, seq in places:
        found.setdefault(channel_id, []).append(seq)
    return found


aerase_message = sync_to_async(erase_message, thread_sensitive=True)
aerase_client = sync_to_async(erase_client, thread_sensitive=True)
