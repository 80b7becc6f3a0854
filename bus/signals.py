"""Signals of the bus for Django code.

A receiver cannot change or stop anything. If a receiver fails, the bus logs the error and goes on (``send_robust``). Signals of
sockets are sent in the thread of the event loop, so a receiver must neither block nor run a query.
"""

from __future__ import annotations

from django.dispatch import Signal

#: ``client`` (a dict of client_id, client_type, screen_name, avatar), ``room``, ``channel``, ``private`` (the room is private).
client_connected = Signal()
#: ``client``, ``code`` (the close code), ``room`` (the initial one), ``private``. A client of a dead process has the code 1006
#: and no room.
client_disconnected = Signal()
#: ``room``, ``channel``, ``created_by``, ``private``.
channel_created = Signal()
#: ``room``, ``channel``, ``deleted_by``, ``private``.
channel_deleted = Signal()
#: ``messages`` (a list of (address, seq, frame bytes) of one commit).
message_published = Signal()
#: ``client``, ``activity`` (a type or command name), ``room``, ``channel``, ``private``. The text is never included.
#: The bus sends it at most once a second for each client and activity.
client_active = Signal()
#: ``node`` (its id), ``stats`` (a dict). Each node sends it every ``telemetry_interval``.
server_stats = Signal()
#: ``decision`` (``shapes.Decision``): somebody decided, its time is over, or it was cancelled. It is sent after the commit, in
#: the thread that ended it, so a receiver may query. Of several receivers the one acts that consumes the decision.
decision_made = Signal()
