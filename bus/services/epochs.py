"""New epochs for the logs of a database that was set back to an older state.

Its logs end before messages that clients have seen, and would use their numbers again. With another epoch, a returning client
gets ``recovered: false``, and does not mistake new messages for those it knows.
"""

from __future__ import annotations

import time

from django.db import transaction

from ..auth.permissions import Actor
from ..models import Channel, Client, new_epoch
from . import audit, nodes


class StillServed(Exception):
    """Raised when processes serve the database; ``count`` is how many."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


def renew(actor: Actor, *, door: str) -> int:
    """Give every log another epoch; how many there are.

    Raises :class:`StillServed` while a process serves: it would go on in the old ones with those who are connected.
    """
    if serving := _serving():
        raise StillServed(serving)
    with transaction.atomic():
        channels = list(Channel.objects.only("id", "epoch"))
        for channel in channels:
            channel.epoch = new_epoch()
        Channel.objects.bulk_update(channels, ["epoch"], batch_size=400)
        # Those that inboxes would get with their first letter, too: each is made anew when its client comes back.
        Client.objects.exclude(inbox_epoch="").update(inbox_epoch="")
        audit.record(actor, door, "new_epochs", "all channels", channels=len(channels))
    return len(channels)


def _serving() -> int:
    """How many processes serve.

    One young sign of life may be that of a process which was killed, or of a backup; a second one is proof.
    """
    seen = nodes.heartbeats()
    while seen:
        time.sleep(0.1)
        now = nodes.heartbeats()
        if any(seen.get(node_id) != beat for node_id, beat in now.items()):
            return len(now)
        seen = now
    return 0
