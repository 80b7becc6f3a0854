"""Entries that open, grow, steer and end streams, for the tests of the log."""

from __future__ import annotations

from typing import Any

import msgspec

from bus.log import Entry, Opening, Part, Steer, append_batch
from bus.log.effects import Effect
from bus.models import Channel, Message, Room, StreamPart
from bus.protocol import growing
from bus.protocol.names import Address

AT = Address("lab", "bench")
#: Larger than every stream of the tests that do not ask for a limit.
ROOM_ENOUGH = 262144


def bench() -> Channel:
    """A channel with an empty log."""
    return Channel.objects.create(room=Room.objects.create(name=AT.room), name=AT.channel)


def message(
    channel_id: int, uid: str, *, sender: str = "ada", key: str | None = None, effect: Effect | None = None
) -> Entry:
    """A message of `sender`. It steers or opens a stream if its effect does."""
    head = b'{"version":"1.0","id":"%b","type":"event","from":"%b"' % (uid.encode(), sender.encode())
    return Entry(channel_id, head, b',"payload":{}}', uid, "event", sender, key, effect=effect)


def opening(
    channel_id: int,
    of: str = "arq_a1",
    *,
    mode: str = "text",
    owner: str = "ada",
    principal: str = "",
    rest: bool = False,
    most: int = 0,
    key: str | None = None,
) -> Entry:
    """The message that opens a stream."""
    effect = Opening(mode, owner, principal, rest=rest, most=most)
    return message(channel_id, of, sender=owner, key=key, effect=effect)


def part(
    channel_id: int,
    n: int,
    content: Any = None,
    *,
    of: str = "arq_a1",
    owner: str = "ada",
    principal: str = "",
    end: str | None = None,
    payload: bytes | None = None,
    took: tuple[str, ...] = (),
    token: str | None = None,
    max_bytes: int = ROOM_ENOUGH,
    wants_steers: bool = False,
    key: str | None = None,
) -> Entry:
    """A part: text, or an object for a stream of mode parts; an end, or both."""
    encoded = b"" if content is None else msgspec.json.encode(content)
    mode, data = ("text", encoded[1:-1]) if isinstance(content, str) else ("parts", encoded)
    effect = Part(
        of, n, mode if content is not None else "", data, owner, principal, max_bytes=max_bytes, end=end,
        payload=payload, took=took, token=token, wants_steers=wants_steers,
    )  # fmt: skip
    if end is None:
        return Entry(channel_id, b"", b"", f"{of}/{n}", "append", owner, effect=effect)
    head = growing.stream_end_head(of, None, AT, owner)
    return Entry(channel_id, head, b"", growing.end_uid(of, None), growing.STREAM_END, owner, key, effect=effect)


def steer(channel_id: int, uid: str, *, of: str = "arq_a1", sender: str = "eve", key: str | None = None) -> Entry:
    """A message to the owner of a stream."""
    return message(channel_id, uid, sender=sender, key=key, effect=Steer(of))


def write(*entries: Entry, **options: Any) -> list[Entry]:
    """Append the entries in one transaction; the entries with their results."""
    append_batch(entries, window=3600, **options)
    return list(entries)


def effect_of(entry: Entry) -> Any:
    """The effect of an entry, for its results."""
    assert entry.effect is not None
    return entry.effect


def refusal(entry: Entry) -> str | None:
    """The code of an entry's error."""
    return None if entry.error is None else str(entry.error.code)


def frames(channel: Channel) -> list[dict[str, Any]]:
    """The log, oldest first."""
    return [row.as_dict() for row in Message.objects.filter(channel=channel).order_by("seq")]


def kept(of: str = "arq_a1") -> list[tuple[int, int, str]]:
    """The rows with the content of an open stream: first and last number, and the content."""
    rows = StreamPart.objects.filter(stream__uid=of).order_by("n")
    return list(rows.values_list("first", "n", "data"))
