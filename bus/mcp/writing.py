"""The tools that write messages: publish, and answers that grow."""

from __future__ import annotations

from typing import Any

import msgspec

from ..api.throttling import spend
from ..directory.streams import find_stream
from ..protocol.appends import APPEND
from ..publishing.django import publish_frames
from ..services import growing
from ..shapes import Published
from . import arguments
from .caller import INBOX, Caller, Result, shown, wrong


def publish(caller: Caller, given: arguments.Publish) -> Result:
    """Publish a message."""
    if given.text is None and given.payload is None:
        raise wrong("text", "Give `text`, `payload`, or both.")
    if (given.address is None) == (given.to is None):
        raise wrong("address", "Give `address`, or `to` for a private message.")
    if given.address == INBOX:
        raise wrong("address", "An inbox gets private messages. Give `to`.")
    content = {"message": given.text, "payload": given.payload, "id": given.id}
    if given.to is None:
        inbound = caller.frame(room=given.address, deliver_at=given.deliver_at, **content)
    else:
        inbound = caller.frame(type="private", to=given.to, **content)
        spend(caller.actor, len(given.to) - 1)
    delivery = publish_frames([inbound], actor=caller.actor, may_wait=True)
    told = _told(delivery.published[0])
    if given.to is not None and len(given.to) > 1:
        told["seqs"] = {copy.channel: copy.seq for copy in delivery.published}
    if delivery.unknown_targets:
        told["unknown"] = delivery.unknown_targets
    return told


def _told(published: Published) -> Result:
    told: Result = {
        "id": published.id,
        "address": f"{published.room}:{published.channel}",
        "seq": published.seq,
    }
    if published.kept is False:
        told["kept"] = False
    return {**told, "duplicate": True} if published.duplicate else told


def append(caller: Caller, given: arguments.Append) -> Result:
    """Open an answer that grows, or go on with one, and perhaps end it."""
    if (given.address is None) == (given.of is None):
        raise wrong("address", "Give `address` to open an answer, or `of` to go on with one.")
    token: str | None = given.token
    adopted: Result = {}
    if given.of is None:
        opening = caller.frame(room=given.address, payload=given.payload or {}, id=given.id, stream={"mode": "text"})
        place = publish_frames([opening], actor=caller.actor, may_wait=True).published[0].stream
        assert isinstance(place, msgspec.Struct)
        of, have = place.of, 0
        state: Any = place
        if not given.text and given.end is None:
            return _grown(state)
    else:
        of, have = given.of, 0
        if given.adopt:
            new = growing.adopt_stream(of, actor=caller.actor, door="mcp")
            token, have = new.token, new.have
            adopted = {"token": token}
            if not given.text and given.end is None:
                return {
                    "of": of,
                    "state": "open",
                    "parts": have,
                    "stop_requested": new.stopping,
                    "steers": [],
                    **adopted,
                }
        elif given.n is None:
            have = find_stream(caller.actor, of)[0].have
    part = caller.frame(
        type=APPEND,
        of=of,
        n=_number(given, have),
        delta=given.text or None,
        end=given.end,
        payload=given.payload if given.end is not None and given.of is not None else None,
        took=given.took or None,
        token=token,
    )
    state = publish_frames([part], actor=caller.actor, may_wait=True).published[0].stream
    return _grown(state) | adopted


def _number(given: arguments.Append, have: int) -> int:
    """The number of the piece. An end without a text repeats the number of the last piece."""
    if given.n is not None and given.of is not None:
        return given.n if given.text else given.n - 1
    return have + 1 if given.text else have


def _grown(place: Any) -> Result:
    steers = [] if place.steers is msgspec.UNSET else place.steers
    return {
        "of": place.of,
        "state": place.state,
        "parts": place.have,
        "stop_requested": place.stopping,
        "steers": [shown(msgspec.json.encode(steer, enc_hook=str)) for steer in steers],
    }
