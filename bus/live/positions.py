"""Where a page and its stream meet: the position in a log, read in the same moment as the rows of the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ..db.snapshots import snapshot
from ..models import Channel
from ..protocol.names import Address, parse_address
from ..protocol.routing import invalid_name


class Position(msgspec.Struct, frozen=True):
    """A place in the log of ``address``: everything up to ``seq`` is known. ``epoch`` is empty while there is no channel.

    As a text it is ``<epoch>-<seq>``.
    """

    address: str
    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    def as_json(self) -> dict[str, object]:
        """Return the position as the clients of the bus have it: ``{"epoch": …, "seq": …}``."""
        return {"epoch": self.epoch, "seq": self.seq}


def read_position(text: str) -> tuple[str, int] | None:
    """Return the epoch and the seq of a position's text; None for another text."""
    epoch, dash, seq = text.rpartition("-")
    good = dash and len(epoch) <= 16 and epoch.isascii() and (epoch.isalnum() or not epoch)
    return (epoch, int(seq)) if good and seq.isascii() and seq.isdecimal() and len(seq) < 19 else None


def log_address(address: str) -> Address:
    """Return the address of a log that pages may follow: a channel, or the messages to a whole room.

    Raises ``BusError`` INVALID_NAME, and ``ValueError`` for an inbox.
    """
    found = parse_address(address)
    if found is None:
        raise invalid_name("address", address, f"{address[:80]!r} is not an address of the form room:channel.")
    if found.is_inbox:
        raise ValueError(f"{found} is an inbox. A live page follows a channel.")
    return found


@contextmanager
def position(address: str) -> Iterator[Position]:
    """Read the position of a log, and then rows of the same moment inside the block.

    ::

        with position("orders:7") as at:
            rows = list(Order.objects.filter(customer=7))

    The stream that begins at ``at`` has exactly the messages that ``rows`` do not know of. The rows must be of the same
    database as the bus, and their changes and messages must share a transaction. Evaluate queries inside the block.

    Raises ``BusError`` INVALID_NAME, ``ValueError`` for an inbox, and as :func:`bus.db.snapshots.snapshot`.
    """
    log = log_address(address)
    with snapshot():
        place = Channel.objects.filter(room__name=log.room, name=log.channel).values_list("epoch", "head").first()
        epoch, seq = place or ("", 0)
        yield Position(str(log), epoch, seq)
