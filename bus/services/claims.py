"""What a claim to a client id says, and what its answer says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from ..log import Position
from . import marks

#: The place of a claim among all claims of its client id: the row's primary key and the claim's number within the row.
Order = tuple[int, int]


def _always() -> bool:
    return True


class Claim(msgspec.Struct):
    """A connection claims a client id and its first membership."""

    node_id: str
    connection_id: str
    client_id: str
    generated: bool
    client_type: str
    screen_name: str
    avatar: str
    personality: dict[str, Any]
    role: str
    principal: str
    resume_token: str | None
    new_token: str
    channel_id: int
    last_activity: datetime
    #: The epoch of the inbox of a client without a row.
    new_epoch: str
    #: What the client says of itself (``protocol.registration.CardFields``).
    card: dict[str, Any] | None = None
    #: Connections that the principal may have in all processes together. 0: no limit is checked
    #: (``bus.node.clients.admission``).
    most: int = 0
    #: Whether a connection still waits for the answer. The database's thread asks just before it grants the claim. Its client
    #: may have connected elsewhere while the claim was delayed. Such a claim must not take the id from that connection.
    wanted: Callable[[], bool] = _always


class Claimed(msgspec.Struct):
    """The result of a granted claim.

    ``marks`` are the claimant's marks by the address of the log (``marks.kept_by``). ``marked`` says whether an anonymous
    claimant has any. ``inbox`` is None until the client gets its first private message. ``inbox_epoch`` is the epoch that
    the inbox has or will have. The claimant may read its inbox above the seq ``inbox_floor``. ``withheld`` says whether
    older private messages below it belong to a previous owner of the id. ``token`` is the resume token.
    """

    inbox: Position | None
    inbox_epoch: str
    inbox_floor: int
    withheld: bool
    participants: int
    token: str
    order: Order
    marks: dict[str, marks.Place]
    marked: bool


class Raced(Exception):
    """Another process made a client with the claimed id meanwhile. Nothing was done. The next try finds its row."""
