"""A layer that answers and does not work: the wrong server after a failover, or one that lets a process send and not receive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from bus.notify.link import is_answer
from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends, Storage
from tests.harness.client import WireClient
from tests.harness.redis import RedisServer
from tests.harness.relay import relaying
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for


def read_only(old: RedisServer, new: RedisServer) -> None:
    """READONLY: the old master follows the new one."""
    assert old.command("REPLICAOF", "127.0.0.1", str(new.port)) == b"+OK\r\n"


def master_down(old: RedisServer, new: RedisServer) -> None:
    """MASTERDOWN: it follows one that is not there, and tells nothing meanwhile."""
    assert old.command("CONFIG", "SET", "replica-serve-stale-data", "no") == b"+OK\r\n"
    assert old.command("REPLICAOF", "127.0.0.1", "1") == b"+OK\r\n"


def no_auth(old: RedisServer, new: RedisServer) -> None:
    """NOPERM for everything, as where the users of the old server were taken away."""
    assert old.command("ACL", "SETUSER", "default", "nocommands", "+acl") == b"+OK\r\n"


FAULTS: list[Callable[[RedisServer, RedisServer], None]] = [read_only, master_down, no_auth]


async def crosses(near: WireClient, far: WireClient, text: str, *, timeout: float) -> bool:
    """Whether an ephemeral message, which stands in no log, reaches another process."""
    await near.publish(text, room="lab", channel="passing", ack=True)
    try:
        await far.expect(message=text, timeout=timeout)
    except (TimeoutError, AssertionError):
        return False
    return True


async def pair(servers: list[BusServer], wire: Connect) -> tuple[WireClient, WireClient]:
    """Clients of an ephemeral channel, in two processes."""
    secret = await asyncio.to_thread(servers[0].create_token, "admin", admin=True)
    body = {"room": "lab", "channel": "passing", "ephemeral": True}
    headers = {"Authorization": f"Bearer {secret}"}
    assert (await asyncio.to_thread(servers[0].request, "POST", "/api/v1/channels", body, headers))[0] == 201
    near, far = [await wire(server, room="lab:passing") for server in servers]
    return near, far


@pytest.mark.cluster
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_after_a_failover_of_the_layer_the_processes_hear_one_another_again(
    start_server: StartServer,
    backends: Backends,
    wire: Connect,
    fault: Callable[[RedisServer, RedisServer], None],
) -> None:
    old, new = await asyncio.to_thread(backends.new_redis), await asyncio.to_thread(backends.new_redis)
    try:
        with relaying(old.port) as relay:
            env = {"REDIS_URL": f"redis://127.0.0.1:{relay.port}/0"}
            servers = list(await asyncio.gather(*(asyncio.to_thread(start_server, env=env) for _ in range(2))))
            near, far = await pair(servers, wire)
            assert await crosses(near, far, "before", timeout=10)
            # Who connects from now on comes to the new one; the old one lives on, and so do the connections to it.
            relay.target = new.port
            await asyncio.to_thread(fault, old, new)
            number = 0

            async def again() -> bool:
                nonlocal number
                number += 1
                return await crosses(near, far, f"try {number}", timeout=5)

            await wait_for(again, "messages cross again", deadline=60)
            assert [await crosses(near, far, f"after {n}", timeout=10) for n in range(10)] == [True] * 10
            assert [await crosses(far, near, f"back {n}", timeout=10) for n in range(10)] == [True] * 10
            for server in servers:
                await wait_for(partial(asyncio.to_thread, server.ready), "the process is ready")
                assert "Traceback" not in server.log()

            async def left() -> bool:
                """A replica still passes on what its master gets. So whoever listens to it notices with its next check."""
                return b"cmd=" not in await asyncio.to_thread(old.command, "CLIENT", "LIST", "TYPE", "PUBSUB")

            await wait_for(left, "nobody listens to the old one")
    finally:
        await asyncio.to_thread(backends.release, old)
        await asyncio.to_thread(backends.release, new)


@pytest.mark.cluster
async def test_a_process_that_may_send_and_not_receive_is_not_ready_and_says_what_to_do(
    start_server: StartServer, storage: Storage, wire: Connect
) -> None:
    redis = storage.redis
    assert redis is not None
    servers = list(await asyncio.gather(*(asyncio.to_thread(start_server) for _ in range(2))))
    near, far = await pair(servers, wire)
    assert await crosses(near, far, "before", timeout=10)
    assert await asyncio.to_thread(redis.command, "ACL", "SETUSER", "default", "-subscribe") == b"+OK\r\n"
    # Redis lets those listen on who listen already.
    await asyncio.to_thread(redis.command, "CLIENT", "KILL", "TYPE", "pubsub")
    for server in servers:
        await asyncio.to_thread(server.process.wait_for_log, "accepts messages and delivers none", deadline=30)
        # It stays so, although everything that is sent is taken.
        for _ in range(10):
            assert not await asyncio.to_thread(server.ready)
        said = [line for line in server.log().splitlines() if "layer_lost" in line]
        assert len(said) == 1
        assert "SUBSCRIBE" in said[0]
        assert "NoPermissionError" in said[0]
    # What is kept is found in the log meanwhile.
    await near.join("lab", "kept")
    await far.join("lab", "kept")
    await near.publish("kept", room="lab", channel="kept", ack=True)
    await far.expect(message="kept", timeout=10)
    assert await asyncio.to_thread(redis.command, "ACL", "SETUSER", "default", "+subscribe") == b"+OK\r\n"
    for server in servers:
        await wait_for(partial(asyncio.to_thread, server.ready), "it is ready again")
    assert await crosses(near, far, "after", timeout=10)


@pytest.mark.pure
def test_a_servers_answer_is_told_from_a_line_that_broke() -> None:
    from redis import exceptions as redis

    for name in (
        "ReadOnlyError",
        "BusyLoadingError",
        "MasterDownError",
        "ClusterDownError",
        "AuthenticationError",
        "NoPermissionError",
        "ResponseError",
    ):
        assert is_answer(getattr(redis, name)("x")), name
    for problem in (redis.ConnectionError("x"), redis.TimeoutError("x"), ConnectionResetError(), TimeoutError()):
        assert not is_answer(problem), problem
