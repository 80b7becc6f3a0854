"""Show the streamed messages of this client to its own readers. The server sends the owner neither the parts nor the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .growing import Growth
from .owning import Owning

if TYPE_CHECKING:
    from .streaming import Streaming
    from .subscription import Subscription


def parts(bus: Streaming, of: str, frames: list[dict[str, Any]]) -> None:
    """Show parts that the server has kept."""
    growth = bus._growing.get(of) if frames else None
    if growth is not None:
        for frame in frames:
            growth.append(frame)


def end(bus: Streaming, owning: Owning, seq: int | None, untaken: tuple[str, ...]) -> None:
    """Show an end that the server has kept as the message ``seq``."""
    frame, growth = owning.end, bus._growing.get(owning.of)
    if growth is None or frame is None:
        return
    growth.append(frame)
    if growth.behind or growth.have < frame["n"]:
        bus._spawn(_refill(bus, growth))  # We adopted it, and do not know its beginning.
        return
    told = {"state": owning.state, "mode": growth.mode, "parts": growth.have}
    content = {"message": growth.text} if growth.mode == "text" else {"parts": growth.parts}
    payload = frame.get("payload") or {}
    shown = {"of": owning.of, "seq": seq, "stream": told, "payload": payload, "untaken": list(untaken), **content}
    bus._growing.ended(shown, growth.address)
    _pass(bus, growth)


async def _refill(bus: Streaming, growth: Growth) -> None:
    await bus._refill(growth)
    _pass(bus, growth)


def _pass(bus: Streaming, growth: Growth) -> None:
    for subscription in bus._heard.hearing(growth.address):
        _go_on(subscription, growth)


def _go_on(subscription: Subscription, growth: Growth) -> None:
    """Make a subscription go on to the end of our own message."""
    cursor, seq, growing = subscription._cursors.get(growth.address), growth.end_seq, subscription._growing
    if cursor is None or cursor.lagging or cursor.last is None or seq is None:
        return  # The history brings the end.
    # Messages before the end may be on the way. They must not count as repeated ones, so we pass no hole.
    if seq == cursor.last + 1 and growth.of in growing:
        cursor.last = seq
        if growth.address == subscription.address:
            subscription._queue.append((seq, cursor.epoch))
            subscription._arrived.set()
    for other in list(growing.values()):
        if other.address == growth.address and other.end_seq is not None and other.end_seq <= cursor.last:
            del growing[other.of]
