"""How frames are taken off a socket: the usual ones before the server's own parser, everything else by it.

A server turns bytes into a frame, the frame into an event, the event into a place in a queue and that into a wake-up of a
coroutine; for a bus that is most of the cost of a message. Where a module here knows the server, complete text frames are
taken apart at once and handed on as plain calls. Control frames, fragments, large, binary and faulty frames go to the
server's parser, byte for byte as they came, and their messages through its queue as ever.
"""

from __future__ import annotations

from .auto import attach
from .base import Reader
from .odd import Allowance

__all__ = ["Allowance", "Reader", "attach"]
