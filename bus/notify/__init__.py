"""Notifications between the processes of a bus, and the channel layer that carries them.

A notification is a hint: it may be lost, doubled, late or out of order, and nobody waits for it. What it points at is in the
database. A process that sees a gap reads the log, and it looks at the log from time to time even without a notification. So
every fault of the layer (capacity, expiry, a restarted Redis) costs a moment, never a message.
"""
