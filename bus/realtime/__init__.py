"""Asyncio without Django and without a server: the members of this process, and how frames reach their sockets."""
