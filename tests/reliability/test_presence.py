"""What is written down of connections, compared with those that there are."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from bus.models import Client
from bus.node import running
from bus.services import nodes
from bus.testing import LiveBus


@pytest.mark.django_db(transaction=True)
async def test_who_was_taken_over_while_the_layer_was_away_does_not_come_back(live_bus: LiveBus) -> None:
    """The newer connection is at another process, whose bell never came: it stays, and the older one ends for good."""
    taken, lost = await live_bus.connect("taken"), await live_bus.connect("lost")
    node = running()
    assert node is not None

    def elsewhere() -> None:
        nodes.started("other", "elsewhere", 1, "1")
        Client.objects.filter(client_id="taken").update(node="other", connection_id="newer")
        Client.objects.filter(client_id="lost").update(node=None, connection_id="")

    await sync_to_async(elsewhere)()
    for _ in range(2):
        await node.life.compare_presence()
    assert (await taken.expect(type="error"))["error"]["code"] == "TAKEN_OVER"
    assert (await lost.expect(type="error"))["error"]["code"] == "RESTARTING"
    assert (taken.close_code, lost.close_code) == (4410, 4012)
