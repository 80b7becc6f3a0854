"""What the owners of streams have to be told: that somebody asked for a stop, and the steers that they have not taken."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ..log import streamed
from ..log.effects import OPEN, StreamState
from ..models import Channel, Message, Stream, StreamSteer
from ..protocol.kept import legible
from ..protocol.names import Address
from ..realtime.frame import LoggedFrame

#: Steers of one stream that its owner is told at once. It is told the next ones once it has taken some.
MOST = 100


class Owed(NamedTuple):
    """What the owner of an open stream at ``address`` has to be told. The steers are the oldest ones."""

    state: StreamState
    address: Address
    steers: list[LoggedFrame]


def owed(stream_ids: Collection[int]) -> list[Owed]:
    """Return what the owners of those of the streams that are open have to be told."""
    states = streamed.states(Stream.objects.filter(id__in=stream_ids, state=OPEN))
    channels = Channel.objects.filter(id__in={state.channel_id for state in states})
    places = {row[0]: Address(*row[1:]) for row in channels.values_list("id", "room__name", "name")}
    return [
        Owed(state, places[state.channel_id], _steers(state) if state.steers else [])
        for state in states
        if state.channel_id in places
    ]


def _steers(state: StreamState) -> list[LoggedFrame]:
    seqs = list(StreamSteer.objects.filter(stream_id=state.id).order_by("seq").values_list("seq", flat=True)[:MOST])
    rows = Message.objects.filter(channel_id=state.channel_id, seq__in=seqs).order_by("seq")
    return [LoggedFrame(seq, legible(frame.encode(), seq)) for seq, frame in rows.values_list("seq", "frame")]
