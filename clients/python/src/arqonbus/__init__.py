"""The Python client of ArqonBus. It reconnects and resumes by itself.

::

    import arqonbus

    async with arqonbus.connect("ws://localhost:8765/", client_id="me") as bus:
        async with bus.subscribe("science:explore") as messages:
            await bus.publish("science:explore", "hello")
            async for message in messages:
                print(message.sender, message.text)

``arqonbus.sync`` has the same client without an event loop.
"""

from __future__ import annotations

from ._version import __version__
from .answers import Answer
from .backoff import Backoff
from .bus import Bus
from .connecting import connect
from .errors import (
    ArqonBusError,
    BusClosed,
    ClosedByServer,
    ConnectionFailed,
    ConnectionLost,
    IdentityInUse,
    ServerError,
    StreamEnded,
    StreamLost,
    StreamReset,
)
from .messages import Message, Page, Position, Receipt
from .states import State
from .steering import Steer
from .stream import Stream
from .subscription import Subscription

__all__ = [
    "Answer",
    "ArqonBusError",
    "Backoff",
    "Bus",
    "BusClosed",
    "ClosedByServer",
    "ConnectionFailed",
    "ConnectionLost",
    "IdentityInUse",
    "Message",
    "Page",
    "Position",
    "Receipt",
    "ServerError",
    "State",
    "Steer",
    "Stream",
    "StreamEnded",
    "StreamLost",
    "StreamReset",
    "Subscription",
    "__version__",
    "connect",
]
