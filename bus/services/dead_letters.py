"""Dead letters: the message into another channel for a job that nobody could do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.db.models import Q
from msgspec import UNSET, Raw, UnsetType

from ..auth.permissions import PUBLISH, SYSTEM
from ..directory.channels import ChannelRef, ensure, find_all
from ..log import Entry
from ..models import Job, Message
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import KIND_PUBLISH, Inbound
from ..protocol.names import SERVER, Address, parse_address
from ..publishing.entry import entries, random_uid

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


def letters_of_jobs(jobs: Sequence[Job], refs: Mapping[int, ChannelRef]) -> list[tuple[Job, Entry]]:
    """Return the letters of dead jobs, for the log in the transaction of their deaths.

    ``refs`` are the jobs' channels by id. A letter goes to the channel that the rule of its job's channel names. That one is made
    if missing. A job without its message has no letter. Where the channel cannot be made, the log has a line.
    """
    frames_of = _frames(jobs)
    rules = {job: refs[job.channel_id].work for job in jobs}
    wanted = {
        job: parse_address(rule.dead) for job, rule in rules.items() if rule is not None and rule.dead is not None
    }
    places: dict[Address, ChannelRef | BusError] = {
        **find_all({place for place in wanted.values() if place is not None})
    }
    made: list[tuple[Job, Entry]] = []
    for job, address in wanted.items():
        frame = frames_of.get((job.channel_id, job.seq))
        if frame is None or address is None:
            continue
        if address not in places:
            places[address] = _made(address)
        place = places[address]
        if isinstance(place, BusError):
            log_lost(job, place)
        elif place.ephemeral:
            log_lost(job, BusError(ErrorCode.VALIDATION_ERROR, "The channel stores no messages."))
        else:
            inbound = _letter(job, refs[job.channel_id], msgspec.json.decode(frame, type=_Original))
            made.append((job, entries(inbound, [place], SERVER, random_uid, actor=SYSTEM, connected=False)[0]))
    return made


def log_lost(job: Job, problem: BusError) -> None:
    """Log that a channel did not take the letter of a job, which is dead all the same."""
    logger.warning(
        "a dead letter could not be published: %s",
        problem.message,
        extra={"event": "dead_letter_lost", "channel_id": job.channel_id, "seq": job.seq},
    )


def _frames(jobs: Sequence[Job]) -> dict[tuple[int, int], str]:
    """Return the messages of jobs by channel id and seq, read with one query."""
    seqs: dict[int, list[int]] = {}
    for job in jobs:
        seqs.setdefault(job.channel_id, []).append(job.seq)
    wanted = Q(pk__in=[])
    for channel_id, some in seqs.items():
        wanted |= Q(channel_id=channel_id, seq__in=some)
    rows = Message.objects.filter(wanted).order_by().values_list("channel_id", "seq", "frame")
    return {(channel_id, seq): frame for channel_id, seq, frame in rows}


def _made(address: Address) -> ChannelRef | BusError:
    try:
        return ensure(address, SYSTEM, action=PUBLISH)[0]
    except BusError as problem:
        return problem


def _letter(job: Job, ref: ChannelRef, original: _Original) -> Inbound:
    inbound = Inbound(kind=KIND_PUBLISH, type=original.type, id=None)
    inbound.payload = bytes(original.payload)
    if original.message is not UNSET:
        inbound.message = bytes(original.message)
    inbound.metadata = frames.encode({"dead": _facts(job, ref, original)})
    for key, value in (("traceparent", original.traceparent), ("tracestate", original.tracestate)):
        if value is not UNSET:
            inbound.trace += b',"%b":%b' % (key.encode(), bytes(value))
    return inbound


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
