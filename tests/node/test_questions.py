"""The deadlines of questions that a process knows of."""

from __future__ import annotations

import pytest

from bus.node import Node
from tests.harness.waiting import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.django_db(transaction=True)]


async def test_a_process_that_stops_looks_at_no_more_deadlines(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    async def look() -> float:
        looks.append(node.runtime.loop.time())
        return 1.0

    monkeypatch.setattr(node.questions, "look", look)
    node.questions.expect(0.01)
    await wait_for(lambda: looks, "the deadline is looked at")
    node.questions.expect(30.0)
    timer = node.questions._timer
    assert timer is not None
    await node.stop()
    assert timer.cancelled()
