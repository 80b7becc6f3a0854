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
from .decisions import Decision
from .errors import (
    ArqonBusError,
    AskFailed,
    AskTimeout,
    BusClosed,
    ClaimLost,
    ClosedByServer,
    ConnectionFailed,
    ConnectionLost,
    DecisionEnded,
    IdentityInUse,
    NoResponder,
    RejectedBefore,
    ServerError,
    StreamEnded,
    StreamLost,
    StreamReset,
)
from .folding import Fold
from .following import RoomSubscription
from .jobs import Job
from .messages import Message, Page, Position, Receipt
from .states import State
from .steering import Steer
from .stream import Stream
from .subscription import Subscription
from .work import Work

__all__ = [
    "Answer",
    "ArqonBusError",
    "AskFailed",
    "AskTimeout",
    "Backoff",
    "Bus",
    "BusClosed",
    "ClaimLost",
    "ClosedByServer",
    "ConnectionFailed",
    "ConnectionLost",
    "Decision",
    "DecisionEnded",
    "Fold",
    "IdentityInUse",
    "Job",
    "Message",
    "NoResponder",
    "Page",
    "Position",
    "Receipt",
    "RejectedBefore",
    "RoomSubscription",
    "ServerError",
    "State",
    "Steer",
    "Stream",
    "StreamEnded",
    "StreamLost",
    "StreamReset",
    "Subscription",
    "Work",
    "__version__",
    "connect",
]
