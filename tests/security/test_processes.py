"""Limits that hold over all processes."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import WireError
from tests.security.conftest import PRODUCTION

pytestmark = pytest.mark.cluster


async def test_one_principal_has_no_more_connections_by_going_from_process_to_process(
    wire: Connect, start_server: StartServer
) -> None:
    """Four in all: one process takes four, another one then only as many as it need not ask about."""
    env = {**PRODUCTION, "ARQONBUS_CONNECTIONS_PER_PRINCIPAL": "4", "ARQONBUS_NODE_HEARTBEAT": "0.3"}
    first = start_server(env=env)
    second = start_server(env=env)
    popular, other = first.create_token("popular"), first.create_token("other")
    there = [await wire(first, token=popular) for _ in range(4)]
    await wire(second, token=popular)
    with pytest.raises(WireError) as refused:
        await wire(second, token=popular)
    assert refused.value.code == "LIMIT_REACHED"
    assert refused.value.details[0]["limit"] == "connections_per_principal"
    await wire(second, token=other)
    await wire(second)
    # Where a place is free, one may come.
    await asyncio.gather(*(client.close() for client in there[:2]))
    async with asyncio.timeout(10):
        while True:
            try:
                await wire(second, token=popular)
                break
            except WireError:
                await there[2].ping()
