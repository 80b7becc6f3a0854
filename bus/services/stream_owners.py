"""What the owners of streams have to be told: that somebody asked for a stop, and the steers that they have not taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..auth.permissions import PUBLISH, Actor, can
from ..conf.settings import config
from ..directory.channels import ref_of
from ..log import streamed
from ..log.effects import OPEN, StreamState
from ..log.pages import FrameBytes
from ..models import Channel, Message, Stream, StreamSteer
from ..protocol.kept import legible
from ..protocol.names import Address
from ..realtime.frame import LoggedFrame

#: Steers of one stream that its owner is told at once. The next look has the next ones.
MOST = 100
#: The bytes of all steers of one look, in times of the setting ``frame_bytes``.
FRAMES = 2


class Owner(NamedTuple):
    """The owner of a stream, and the seqs of the steers that it was told of."""

    actor: Actor
    told: Collection[int] = ()


class Owed(NamedTuple):
    """What the owner of an open stream at ``address`` has to be told. The steers are the oldest untold ones."""

    state: StreamState
    address: Address
    steers: list[LoggedFrame]


def owed(owners: Mapping[int, Owner]) -> list[Owed]:
    """Return what the owners of those of the streams, by id, that are open have to be told.

    An owner that may not publish in the channel any more is told nothing. The frames have few bytes: the rest of the steers is
    for the next look.
    """
    states = streamed.states(Stream.objects.filter(id__in=list(owners), state=OPEN))
    rows = Channel.objects.select_related("room").filter(id__in={state.channel_id for state in states})
    refs = {channel.pk: ref_of(channel) for channel in rows}
    allowed = []
    for state in states:
        ref = refs.get(state.channel_id)
        if ref is not None and can(owners[state.id].actor, PUBLISH, ref.address, private=ref.private):
            allowed.append(state)
    steers = _untold([state for state in allowed if state.steers], owners)
    return [Owed(state, refs[state.channel_id].address, steers.get(state.id, [])) for state in allowed]


def _untold(states: Collection[StreamState], owners: Mapping[int, Owner]) -> dict[int, list[LoggedFrame]]:
    """Return the oldest steers of each stream that its owner was not told of, within the bytes of one look."""
    seqs: dict[int, list[int]] = defaultdict(list)
    rows = StreamSteer.objects.filter(stream_id__in=[state.id for state in states]).order_by("seq")
    for stream_id, seq in rows.values_list("stream_id", "seq"):
        if seq not in owners[stream_id].told and len(seqs[stream_id]) < MOST:
            seqs[stream_id].append(seq)
    left = FRAMES * config().frame_bytes
    found: dict[int, list[LoggedFrame]] = {}
    for state in states:
        if not seqs[state.id] or left <= 0:
            continue
        messages = Message.objects.filter(channel_id=state.channel_id)
        sizes = messages.filter(seq__in=seqs[state.id]).annotate(size=FrameBytes("frame")).order_by("seq")
        chosen = []
        for seq, size in sizes.values_list("seq", "size"):
            if left <= 0:
                break
            chosen.append(seq)
            left -= size
        frames = messages.filter(seq__in=chosen).order_by("seq").values_list("seq", "frame")
        found[state.id] = [LoggedFrame(seq, legible(frame.encode(), seq)) for seq, frame in frames]
    return found
