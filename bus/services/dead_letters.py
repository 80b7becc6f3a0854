"""Dead letters: the message into another channel for a job that nobody could do."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ..auth.permissions import SYSTEM
from ..directory.channels import ChannelRef
from ..models import Job, Message
from ..protocol import frames
from ..protocol.errors import BusError
from ..protocol.inbound import KIND_PUBLISH, Inbound
from ..publishing.django import publish_frames

logger = logging.getLogger("arqonbus.work")

#: Characters of each error in a dead letter. The job itself keeps more.
SHOWN = 500


class _Original(msgspec.Struct):
    """What a dead letter takes from the message of its job."""

    type: str
    sender: str = msgspec.field(name="from")
    payload: Raw = Raw(b"{}")
    message: Raw | UnsetType = UNSET
    traceparent: Raw | UnsetType = UNSET
    tracestate: Raw | UnsetType = UNSET


def publish_letter(job: Job, ref: ChannelRef) -> None:
    """Publish the dead letter of a job of ``ref`` to the channel that its rule names, in the caller's transaction.

    A job without its message has none. If the channel does not take the letter, the job is dead all the same, and the log has a
    line. Raises the database's error where a lock is not free in time.
    """
    frame = Message.objects.filter(channel_id=job.channel_id, seq=job.seq).values_list("frame", flat=True).first()
    if frame is None or ref.work is None or ref.work.dead is None:
        return
    original = msgspec.json.decode(frame, type=_Original)
    inbound = Inbound(kind=KIND_PUBLISH, type=original.type, id=None)
    inbound.room = ref.work.dead
    inbound.payload = bytes(original.payload)
    if original.message is not UNSET:
        inbound.message = bytes(original.message)
    inbound.metadata = frames.encode({"dead": _facts(job, ref, original)})
    for key, value in (("traceparent", original.traceparent), ("tracestate", original.tracestate)):
        if value is not UNSET:
            inbound.trace += b',"%b":%b' % (key.encode(), bytes(value))
    try:
        publish_frames([inbound], actor=SYSTEM)
    except BusError as problem:
        logger.warning(
            "a dead letter could not be published: %s",
            problem.message,
            extra={"event": "dead_letter_lost", "channel_id": job.channel_id, "seq": job.seq},
        )


def _facts(job: Job, ref: ChannelRef, original: _Original) -> dict[str, Any]:
    return {
        "room": ref.address.room,
        "channel": ref.address.channel,
        "seq": job.seq,
        "id": job.uid,
        "from": original.sender,
        "attempts": job.attempt,
        "errors": [{**failure, "error": failure["error"][:SHOWN]} for failure in job.errors],
    }
