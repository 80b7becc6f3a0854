"""Light connections: usual handshakes of the bus's own sockets, answered before Twisted and Autobahn make their objects.

``first`` decides, ``grammar`` says what is usual, ``connection`` is the connection, ``sockets`` has all of a server, ``parser``
serves the frames that are not usual, and ``writer`` writes. Everything else is daphne's, byte for byte as if this were not here.
"""

from .first import First, sockets_of

__all__ = ["First", "sockets_of"]
