"""The activity of clients: announced once a moment, with whether its room is private."""

from __future__ import annotations

from typing import Any

import pytest

from bus import signals
from bus.node import Node
from bus.protocol.names import Address
from bus.sockets import activity
from tests.harness.waiting import wait_for
from tests.sockets.conftest import Connect

pytestmark = pytest.mark.django_db(transaction=True)


async def test_an_activity_is_announced_once_a_moment_and_another_one_beside_it(node: Node, connect: Connect) -> None:
    heard: list[dict[str, Any]] = []

    def hear(sender: object, **facts: Any) -> None:
        heard.append(facts)

    signals.client_active.connect(hear)
    try:
        ada = connect()
        await ada.connection.opened()
        await ada.send(type="register", room="lab", channel="bench")
        client = ada.connection.client
        for name in ("event", "event", "ping"):
            activity.announce(node, client, name, Address("lab", "bench"))
        await wait_for(lambda: len(heard) >= 2, "both are announced")
        assert sorted(facts["activity"] for facts in heard) == ["event", "ping"]
        assert {(facts["room"], facts["channel"], facts["private"]) for facts in heard} == {("lab", "bench", False)}
        # A room that nobody knows of may be private.
        activity.announce(node, client, "status", Address("nowhere", "hall"))
        await wait_for(lambda: len(heard) == 3, "the third one is announced")
        assert (heard[2]["room"], heard[2]["private"]) == ("nowhere", True)
    finally:
        signals.client_active.disconnect(hear)
