"""A handler that adds 1 to a counter, and notes who handled what. The test makes both tables."""

from __future__ import annotations

import os

from django.db import connection

from bus.handlers import HandledMessage, on


@on("count:*", name="counter", since="start")
def count(message: HandledMessage) -> None:
    """Add 1."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE counted SET n = n + 1")
        cursor.execute(
            "INSERT INTO handled (channel, seq, pid) VALUES (%s, %s, %s)", [message.channel, message.seq, os.getpid()]
        )
