"""The blocking client: the same abilities, without an event loop of one's own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

import arqonbus
from arqonbus import errors, sync
from tests.conftest import StartServer
from tests.harness.server import BusServer

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


@pytest.fixture
def bus(shared_server: BusServer) -> Iterator[sync.Bus]:
    """A connected blocking client."""
    with sync.connect(shared_server.url, client_type="service") as bus:
        yield bus


def test_messages_go_both_ways(bus: sync.Bus, shared_server: BusServer, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    with sync.connect(shared_server.url) as other, bus.subscribe(address) as messages, other.inbox() as inbox:
        receipt = other.publish(address, "hello", payload={"n": 1})
        message = messages.get(WAIT)
        assert (message.text, message.seq, message.sender) == ("hello", receipt.seq, other.client_id)
        assert messages.position is not None
        assert messages.position.seq == receipt.seq
        bus.private(other.client_id, "psst")
        assert inbox.get(WAIT).text == "psst"
        with pytest.raises(TimeoutError):
            messages.get(0.01)


def test_iterating_ends_when_another_thread_closes(bus: sync.Bus, fresh_room: str) -> None:
    messages = bus.subscribe(f"{fresh_room}:talk", echo=True).open()
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(message.text for message in messages))
    reader.start()
    bus.publish(f"{fresh_room}:talk", "one")
    bus.publish(f"{fresh_room}:talk", "two")
    with bus.subscribe(f"{fresh_room}:talk", since=0, echo=True) as again:
        assert [again.get(WAIT).text for _ in range(2)] == ["one", "two"]
    messages.close()
    reader.join(WAIT)
    assert seen == ["one", "two"]


def test_threads_share_one_bus(bus: sync.Bus, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    threads = [threading.Thread(target=lambda: [bus.publish(address, {"n": n}) for n in range(20)]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert [message.seq for message in bus.history(address)] == list(range(1, 101))


def test_commands_and_their_errors(bus: sync.Bus, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    assert bus.ping()["pong"]
    assert bus.join(address)["participants"] == 1
    assert [row["channel"] for row in bus.list_channels(fresh_room)] == ["talk"]
    assert bus.channel_info(address)["participant_count"] == 1
    assert bus.client_id in [client["client_id"] for client in bus.clients()]
    assert [row["command"] for row in bus.help("ping")] == ["ping"]
    assert bus.status()["server"]["protocol"] == "1.0"
    bus.publish(address, "old")
    assert [message.text for message in bus.history_page(address, after=timedelta(hours=1)).messages] == ["old"]
    assert address not in bus.leave(address)
    with pytest.raises(errors.Forbidden):
        bus.create_channel(address)
    with pytest.raises(errors.Forbidden):
        bus.delete_channel(address)


def test_an_answer_grows_without_an_event_loop(bus: sync.Bus, shared_server: BusServer, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    with sync.connect(shared_server.url) as other, other.subscribe(address) as messages:
        with bus.stream(address, payload={"role": "assistant"}, roll_up=0) as out:
            out.pipe(iter(["Hel", "lo"]))
            answer = messages.get(WAIT)
            deltas = answer.deltas()
            first = next(deltas)
            assert not out.stop_requested
            steered = other.publish(address, "shorter", steer=answer.id)
            steer = next(out.steers())
            assert (steer.text, steer.id, steered.steered) == ("shorter", steered.id, True)
            steer.took()
            assert other.stop_stream(answer.id)["stopping"]
            assert out.stop_requested.wait(WAIT)
            out.pipe(iter([" and more"]))
        assert first + "".join(deltas) == answer.ended().text == "Hello"
        assert (answer.state, out.state, out.have, out.untaken) == ("stopped", "stopped", 2, ())
        with bus.stream(address, mode="parts") as parts:
            parts.part({"n": 1})
        assert list(messages.get(WAIT).deltas()) == [{"n": 1}]
        bus.publish(address, "plain")
        assert list(messages.get(WAIT).deltas()) == ["plain"]
    folded = list(bus.history(address))
    assert [(message.text, message.state) for message in folded] == [
        ("Hello", "stopped"), ("shorter", None), ("", "complete"), ("plain", None),
    ]  # fmt: skip


def test_no_thread_waits_after_the_end(shared_server: BusServer, fresh_room: str) -> None:
    bus = sync.connect(shared_server.url)
    came: list[bool] = []
    with bus.stream(f"{fresh_room}:42") as out:
        waiting = threading.Thread(target=lambda: came.append(out.stop_requested.wait()), daemon=True)
        waiting.start()
    waiting.join(WAIT)
    assert came == [False], "the stream is over, so no request can come"

    entered, raised = threading.Event(), list[Exception]()

    async def forever() -> None:
        entered.set()
        await asyncio.Event().wait()

    def wait_forever() -> None:
        try:
            bus._loop.call(forever())
        except errors.BusClosed as problem:
            raised.append(problem)

    waiting = threading.Thread(target=wait_forever, daemon=True)
    waiting.start()
    assert entered.wait(WAIT)
    bus.close()
    waiting.join(WAIT)
    assert len(raised) == 1
    with pytest.raises(errors.BusClosed):
        bus.ping()


def test_it_comes_back_over_a_restart(start_server: StartServer, fresh_room: str) -> None:
    server = start_server()
    address, quick = f"{fresh_room}:talk", arqonbus.Backoff(first=0.02, most=0.2)
    with sync.connect(server.url, backoff=quick) as bus, bus.subscribe(address, echo=True) as messages:
        bus.publish(address, "before")
        server.restart()
        bus.publish(address, "after")
        assert [messages.get(WAIT).text for _ in range(2)] == ["before", "after"]


def test_a_closed_bus_says_so_and_leaves_no_thread(shared_server: BusServer) -> None:
    before = set(threading.enumerate())
    bus = sync.connect(shared_server.url)
    bus.close()
    bus.close()
    with pytest.raises(arqonbus.BusClosed):
        bus.publish("science:explore", "too late")
    with pytest.raises(arqonbus.ConnectionFailed):
        sync.connect("ws://127.0.0.1:1/")
    assert set(threading.enumerate()) == before


@pytest.mark.pure
@pytest.mark.parametrize(("blocking", "asynchronous"), [(sync.Bus, arqonbus.Bus), (sync.Stream, arqonbus.Stream)])
def test_it_has_every_method_of_the_asyncio_client_with_the_same_parameters(blocking: type, asynchronous: type) -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    # A blocking bus is connected from the start, and waits by itself.
    expected = {name: row for name, row in methods(asynchronous).items() if name not in ("open", "wait_connected")}
    assert {name: row for name, row in methods(blocking).items() if name != "open"} == expected
