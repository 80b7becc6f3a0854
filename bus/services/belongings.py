"""What a client leaves behind with its id: open streams, open questions, claimed jobs and decisions."""

from __future__ import annotations

from collections.abc import Collection

from ..log import streamed
from ..log.jobs import disclaim
from . import asks, decision_expiry


def disown(client_ids: Collection[str]) -> set[str]:
    """Take the streams, questions, jobs and decisions of these clients from them. The next owners of the ids get none of them.

    Call it in the transaction that gives the ids away. It waits for no lock. Returns the clients that a locked row of
    another transaction keeps as they are: their ids must not go yet.
    """
    if not client_ids:
        return set()
    return (
        streamed.disown(client_ids)
        | asks.disown(client_ids)
        | disclaim(client_ids)
        | decision_expiry.disown(client_ids)
    )
