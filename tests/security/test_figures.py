"""How fast: a refusal, a withdrawal, and what a flood costs the others. They are about time, so `make chaos` runs them."""

from __future__ import annotations

import asyncio
import time

import pytest
from websockets.asyncio.client import connect as ws_connect

from tests.conftest import Connect, StartServer
from tests.harness.server import BusServer
from tests.security.conftest import PRODUCTION, Console
from tests.security.test_limits import drain, masked

pytestmark = pytest.mark.chaos


async def test_a_refusal_takes_less_than_100_ms(
    wire: Connect, public_server: BusServer, console: Console, start_server: StartServer
) -> None:
    console.user("quick sleeper")
    tokens = {
        "unknown": "arq_tok_" + "y" * 43,
        "expired": console.token("expired quickly"),
        "revoked": console.token("revoked quickly"),
        "of an inactive user": console.token("inactive quickly", user="quick sleeper"),
        "a broken JWT": "a.b.c",
    }
    console.run("tokens.revoke(SYSTEM, AccessToken.objects.get(name='revoked quickly'), door='test')")
    console.run(
        "AccessToken.objects.filter(name='expired quickly').update(expires_at=timezone.now() - timedelta(seconds=1))"
    )
    console.run("User.objects.filter(username='quick sleeper').update(is_active=False)")
    closed = await asyncio.to_thread(start_server, env={**PRODUCTION, "ARQONBUS_ANONYMOUS": "0"})
    for name, token in {"none": None, **tokens}.items():
        took = []
        for _ in range(21):
            began = time.perf_counter()
            if token is None:
                client = await wire(closed, register=False)
                await client.send({"client_type": "app"})
            else:
                client = await wire(public_server, register=False, headers={"Authorization": f"Bearer {token}"})
            assert await client.wait_closed() == 4401
            took.append(time.perf_counter() - began)
        median = sorted(took)[10]
        print(f"refused, {name}: {median * 1000:.1f} ms (the median of 21, connecting and closing included)")
        assert median < 0.1


async def test_a_withdrawal_acts_within_a_second_without_a_notification(
    wire: Connect, start_server: StartServer
) -> None:
    servers = [start_server(env=PRODUCTION), start_server(env=PRODUCTION)]
    shell = Console(servers[0])
    try:
        worst = 0.0
        for number in range(20):
            token = shell.token(f"t{number}")
            clients = [await wire(server, token=token) for server in servers]
            began = time.perf_counter()
            shell.run(f"tokens.revoke(SYSTEM, AccessToken.objects.get(name='t{number}'), door='test')")
            assert {await client.wait_closed() for client in clients} == {4403}
            worst = max(worst, time.perf_counter() - began)
        print(f"revoked in a third process: closed in two others within {worst * 1000:.0f} ms (the worst of 20)")
        assert worst < 1.0
    finally:
        shell.close()


async def test_a_flood_costs_the_others_less_than_100_ms(
    wire: Connect, start_server: StartServer, fresh_room: str
) -> None:
    server = start_server(env={**PRODUCTION, "ARQONBUS_RATE_LIMIT": "200", "ARQONBUS_RATE_BURST": "400"})
    speaker = await wire(server, room=f"{fresh_room}:hall")
    done = asyncio.Event()

    async def flood() -> None:
        frames = b"".join(masked(b'{"message":"flood"}') for _ in range(500))
        while not done.is_set():
            line = await ws_connect(server.url, compression=None, ping_interval=None, proxy=None)
            reader = asyncio.create_task(drain(line))
            while not (done.is_set() or reader.done()):
                line.transport.write(frames)
                await asyncio.sleep(0.005)
            line.transport.abort()
            await reader

    async def times() -> list[float]:
        took = []
        for number in range(300):
            began = time.perf_counter()
            await speaker.publish(f"calm {number}", ack=True)
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)
        return sorted(took)

    quiet = await times()
    flooder = asyncio.create_task(flood())
    loud = await times()
    done.set()
    await flooder
    p99 = loud[int(len(loud) * 0.99)]
    print(
        f"publish to ack: p99 {quiet[297] * 1000:.1f} ms in quiet, {p99 * 1000:.1f} ms beside a flooder at full speed"
    )
    assert p99 < 0.1
