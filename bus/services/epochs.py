"""New epochs for the logs of a database that was restored to an older state.

Its logs end before messages that clients have seen, and would use their numbers again. With a new epoch, a returning
client gets ``recovered: false``. It then does not mistake new messages for messages that it knows.
"""

from __future__ import annotations

import time

from django.db import transaction

from ..auth.permissions import Actor
from ..models import Channel, Client, new_epoch
from . import audit, nodes


class StillServed(Exception):
    """Processes still serve the database. ``count`` is how many."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


def renew(actor: Actor, *, door: str) -> int:
    """Give every log a new epoch. Return the number of logs.

    Raises :class:`StillServed` while a process serves: it would keep the old epochs for its connected clients.
    """
    if serving := _serving():
        raise StillServed(serving)
    with transaction.atomic():
        channels = list(Channel.objects.only("id", "epoch"))
        for channel in channels:
            channel.epoch = new_epoch()
        Channel.objects.bulk_update(channels, ["epoch"], batch_size=400)
        # Epochs that clients hold for inboxes which do not exist yet. Each gets a new one when its client comes back.
        Client.objects.exclude(inbox_epoch="").update(inbox_epoch="")
        audit.record(actor, door, "new_epochs", "all channels", channels=len(channels))
    return len(channels)


def _serving() -> int:
    """Return how many processes serve.

    One recent heartbeat may come from a killed process or from a backup. A second, newer heartbeat is proof.
    """
    seen = nodes.heartbeats()
    while seen:
        time.sleep(0.1)
        now = nodes.heartbeats()
        if any(seen.get(node_id) != beat for node_id, beat in now.items()):
            return len(now)
        seen = now
    return 0
