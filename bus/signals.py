"""What the bus announces to Django code. Receivers hear of facts; they cannot change or stop anything, and one that
fails is logged and costs nobody else anything (they are sent with ``send_robust``).

Signals of the socket side are sent in the event loop's thread: a receiver must not block, and must not query.
"""

from __future__ import annotations

from django.dispatch import Signal

#: ``client``: dict of client_id, client_type, screen_name, avatar; ``room``, ``channel``; ``private``: whether the room is.
client_connected = Signal()
#: ``client``; ``code``: the close code; ``room`` that it began in, and ``private``. With 1006 and no room also for clients of a
#: process that died.
client_disconnected = Signal()
#: ``room``, ``channel``, ``created_by``, ``private``.
channel_created = Signal()
#: ``room``, ``channel``, ``deleted_by``, ``private``.
channel_deleted = Signal()
#: ``messages``: list of (address, seq, frame bytes) that were committed together.
message_published = Signal()
#: ``client`` (the connection's peer), ``activity`` (a type or command name), ``room``, ``channel``, ``private``: something a
#: client did, not what it said; at most once a second for each client and activity.
client_active = Signal()
#: ``node`` (its id), ``stats``: dict; every ``telemetry_interval``, by each node.
server_stats = Signal()
