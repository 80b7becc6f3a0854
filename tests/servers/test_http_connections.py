"""The limits of HTTP connections, without a server: counts for each address, debts of clients, answers that nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

import pytest

from bus.conf.settings import build
from bus.servers import http_connections
from bus.servers.http_connections import HttpConnection, HttpConnections, check_framing
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.pure


class Client:
    """A connection whose state the test sets."""

    def __init__(self, address: str = "203.0.113.7") -> None:
        self.waiting = 0
        self.debt: Hashable = None
        self.more = False
        self.cut = False
        self.connection = HttpConnection(
            address,
            buffered=lambda: self.waiting,
            abort=self._abort,
            owed=lambda: self.debt,
            answering=lambda: self.more,
        )

    def _abort(self) -> None:
        self.cut = True


Configure = Callable[..., None]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Sets settings of the bus."""

    def change(**values: object) -> None:
        config = build(values, str)
        monkeypatch.setattr(http_connections, "config", lambda: config)

    return change


async def test_one_address_has_so_many_and_a_websocket_is_counted_no_more(configure: Configure) -> None:
    configure(connections_per_address=2)
    connections = HttpConnections()
    first, second, third = Client(), Client(), Client()
    assert [connections.add(each.connection) for each in (first, second, third)] == [True, True, False]
    assert connections.add(Client("198.51.100.1").connection), "another address"
    connections.upgraded(first.connection)
    assert connections.add(third.connection)
    connections.remove(third.connection)
    connections.remove(second.connection)
    connections.remove(second.connection)
    assert len(connections) == 2, "the upgraded one is watched until its handshake is over"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "", "unix"])
async def test_addresses_that_many_share_are_not_counted(configure: Configure, address: str) -> None:
    configure(connections_per_address=1)
    connections = HttpConnections()
    assert all(connections.add(Client(address).connection) for _ in range(3))


async def test_a_client_that_owes_the_same_request_too_long_is_cut_and_others_stay(configure: Configure) -> None:
    configure(handshake_timeout=0.1)
    connections = HttpConnections()
    slow, answered, reading = Client(), Client(), Client()
    slow.debt, answered.debt = "first request", None
    reading.debt, reading.waiting, reading.more = "first request", 10, True
    for each in (slow, answered, reading):
        connections.add(each.connection)

    def read_on() -> bool:
        reading.waiting += 1  # Its answer is still being written.
        return slow.cut

    await wait_for(read_on, "the slow one is cut")
    assert (answered.cut, reading.cut) == (False, False)
    assert len(connections) == 2
    for each in (answered, reading):
        connections.remove(each.connection)


async def test_a_client_that_takes_nothing_of_its_answer_is_cut(configure: Configure) -> None:
    configure(send_deadline=0.2)
    connections = HttpConnections()
    stuck, slow = Client(), Client()
    stuck.waiting, slow.waiting = 1000, 1_000_000
    for each in (stuck, slow):
        connections.add(each.connection)

    def take_a_little() -> bool:
        slow.waiting -= 1
        return stuck.cut

    await wait_for(take_a_little, "the stuck one is cut")
    assert not slow.cut
    connections.remove(slow.connection)


async def test_nothing_is_scheduled_without_connections(configure: Configure) -> None:
    configure(handshake_timeout=0.04)
    connections = HttpConnections()
    client = Client()
    connections.add(client.connection)
    connections.remove(client.connection)
    await wait_for(lambda: connections._timer is None, "the checks end")
    assert asyncio.get_running_loop().is_running()


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")],
        [(b"Upgrade", b"WebSocket"), (b"Content-Length", b"5")],
        [(b"upgrade", b"websocket"), (b"transfer-encoding", b"chunked")],
    ],
)
def test_a_body_of_two_lengths_and_a_handshake_with_a_body_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match="bod"):
        check_framing(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Length", b"5")],
        [(b"Transfer-Encoding", b"chunked")],
        [(b"Upgrade", b"websocket"), (b"Content-Length", b"0")],
        [],
    ],
)
def test_usual_requests_pass(headers: list[tuple[bytes, bytes]]) -> None:
    check_framing(headers)
