"""The wire client against a real `websockets` server that plays a part of the contract.

The bus itself is tested elsewhere; here the server misbehaves on purpose, to show that the client notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.harness.client import WireClient, WireError, refused_status
from tests.harness.recorder import Recorder

pytestmark = pytest.mark.pure

Answer = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


async def _tell(socket: ServerConnection, **frame: Any) -> None:
    await socket.send(json.dumps(frame))


async def _well_behaved(socket: ServerConnection, frame: dict[str, Any]) -> None:
    """Registers, answers pings, acks messages."""
    payload = frame.get("payload") or {}
    if "client_id" in frame:
        answer = {
            "event": "registered",
            "client_id": frame["client_id"],
            "resume_token": "token",
            "channels": {"lab:bench": {"epoch": "e1", "seq": 4}},
        }
        await _tell(socket, type="system", payload=answer)
    elif (frame.get("command") or payload.get("command")) == "ping":
        await _tell(
            socket,
            type="command_response",
            request_id=frame["id"],
            command="ping",
            status="success",
            result={"pong": True},
        )
    elif frame.get("ack"):
        await _tell(socket, type="ack", request_id=frame["id"], seq=5, room="lab", channel="bench")


@contextlib.asynccontextmanager
async def playing(answer: Answer = _well_behaved) -> AsyncIterator[str]:
    """A server on a free port that sends the welcome and lets `answer` do the rest; its URL."""

    async def converse(socket: ServerConnection) -> None:
        await _tell(socket, type="system", payload={"event": "welcome", "client_id": "generated-1"})
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                await answer(socket, json.loads(text))

    async with serve(converse, "127.0.0.1", 0, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/"


@pytest.mark.parametrize("dialect", ["v0", "v1"])
async def test_connect_registers_and_remembers_everything(dialect: Any) -> None:
    """The welcome and the answer are kept; the generated id is used when the test names none."""
    async with playing() as url, await WireClient.connect(url, dialect=dialect, room="lab:bench") as client:
        assert client.client_id == "generated-1"
        assert client.registered["resume_token"] == "token"
        assert client.positions == {"lab:bench": {"epoch": "e1", "seq": 4}}
        assert [frame["payload"]["event"] for frame in client.frames] == ["welcome", "registered"]
        answer = await client.publish("hello", ack=True)
        assert answer["seq"] == 5


async def test_each_dialect_is_spoken_as_the_contract_writes_it() -> None:
    """v0 has its fields at the top level, v1 has version, id, from, timestamp and a payload."""
    async with playing() as url:
        old = await WireClient.connect(url)
        new = await WireClient.connect(url, dialect="v1")
        assert old.message_frame("arq_1", "hi", type="private", to=["b"]) == {
            "type": "private",
            "id": "arq_1",
            "to": ["b"],
            "message": "hi",
        }
        frame = new.message_frame("arq_1", "hi", type="private", to="b", room="lab", channel="pm")
        assert frame.pop("timestamp").endswith("Z")
        assert frame == {
            "version": "1.0",
            "id": "arq_1",
            "type": "private",
            "room": "lab",
            "channel": "pm",
            "from": "generated-1",
            "payload": {"message": "hi", "target": "b"},
        }
        command = new.command_frame("history", {"limit": 3}, "arq_2")
        assert command["payload"] == {"command": "history", "parameters": {"limit": 3}}
        assert old.command_frame("history", {"limit": 3}, "arq_2")["args"] == {"limit": 3}
        await old.close()
        await new.close()


async def test_an_error_answer_is_raised_with_its_code() -> None:
    async def refuse(socket: ServerConnection, frame: dict[str, Any]) -> None:
        error = {"code": "FORBIDDEN", "number": 403, "message": "You may not."}
        if "client_id" in frame:
            await _well_behaved(socket, frame)
        elif frame["type"] == "command":
            await _tell(socket, type="command_response", request_id=frame["id"], status="error", error=error)
        else:
            await _tell(socket, type="error", request_id=frame["id"], error=error)

    async with playing(refuse) as url, await WireClient.connect(url) as client:
        with pytest.raises(WireError, match="FORBIDDEN") as refused:
            await client.request("create_channel", room="lab", channel="new")
        assert (refused.value.code, refused.value.number) == ("FORBIDDEN", 403)
        with pytest.raises(WireError, match="You may not"):
            await client.publish("no", ack=True)
        assert (await client.command("create_channel"))["status"] == "error"


async def test_a_refused_registration_is_raised() -> None:
    async def in_use(socket: ServerConnection, frame: dict[str, Any]) -> None:
        error = {"code": "CLIENT_ID_IN_USE", "number": 409, "message": "taken"}
        await _tell(socket, type="error", request_id=None, error=error)
        await socket.close(4409, "in use")

    async with playing(in_use) as url:
        with pytest.raises(WireError, match="CLIENT_ID_IN_USE"):
            await WireClient.connect(url, client_id="twin")


async def test_expect_takes_the_first_match_and_leaves_the_others() -> None:
    """Frames may be expected in another order than they came; each is handed out once."""

    async def burst(socket: ServerConnection, frame: dict[str, Any]) -> None:
        await _well_behaved(socket, frame)
        if "client_id" in frame:
            for number in (1, 2, 3):
                await _tell(socket, type="event", id=f"m{number}", room="lab", channel="bench", seq=4 + number)

    async with playing(burst) as url, await WireClient.connect(url) as client:
        assert (await client.expect(id="m2"))["seq"] == 6
        assert [frame["id"] for frame in await client.expect_all(2, type="event")] == ["m1", "m3"]
        await client.wait_seq("lab:bench", 7)
        assert [frame["seq"] for frame in client.messages("lab:bench")] == [5, 6, 7]
        assert client.positions["lab:bench"]["seq"] == 7
        with pytest.raises(AssertionError, match=r"within 0.1 s no frame with type='event'.*m3"):
            await client.expect(type="event", timeout=0.1)


async def test_expect_nothing_sees_what_came_before_the_barrier() -> None:
    """A frame that the server sends before the answer to the ping is found; a taken one is no surprise."""

    async def leak(socket: ServerConnection, frame: dict[str, Any]) -> None:
        if frame.get("command") == "ping":
            await _tell(socket, type="event", id="leak", room="lab", channel="secret", seq=1)
        await _well_behaved(socket, frame)

    async with playing(leak) as url, await WireClient.connect(url) as client:
        await client.expect_nothing(type="private")
        with pytest.raises(AssertionError, match=r"nothing was expected, but this came: .*leak"):
            await client.expect_nothing(channel="secret")
    async with playing() as url, await WireClient.connect(url) as client:
        await client.expect_nothing(channel="secret", after=[client])


async def test_expect_nothing_until_judges_only_what_came_before_the_marker() -> None:
    async def sequence(socket: ServerConnection, frame: dict[str, Any]) -> None:
        await _well_behaved(socket, frame)
        if "client_id" in frame:
            for text in ("early", "marker", "late"):
                await _tell(socket, type="event", message=text, room="lab", channel="bench", seq=1)

    async with playing(sequence) as url, await WireClient.connect(url) as client:
        await client.expect_nothing(message="late", until={"message": "marker"})
    async with playing(sequence) as url, await WireClient.connect(url) as client:
        with pytest.raises(AssertionError, match="early"):
            await client.expect_nothing(message="early", until={"message": "marker"})


async def test_a_close_by_the_server_is_told_with_its_code() -> None:
    """Who waits for a frame learns that the connection ended, and why."""

    async def drain(socket: ServerConnection, frame: dict[str, Any]) -> None:
        if frame.get("type") == "event":
            await socket.close(4012, "restart")
        else:
            await _well_behaved(socket, frame)

    async with playing(drain) as url:
        client = await WireClient.connect(url)
        with pytest.raises(AssertionError, match=r"the connection ended \(4012 restart\)"):
            await client.publish("last words", ack=True)
        assert await client.wait_closed() == 4012
        assert client.close_reason == "restart"
        assert client.closed
        with pytest.raises(AssertionError, match=r"ended \(4012 restart\) before frame with type='event'"):
            await client.expect(type="event")
        await client.close()


async def test_an_unanswered_request_fails_at_its_deadline() -> None:
    async def mute(socket: ServerConnection, frame: dict[str, Any]) -> None:
        if "client_id" in frame:
            await _well_behaved(socket, frame)

    async with playing(mute) as url, await WireClient.connect(url) as client:
        with pytest.raises(AssertionError, match=r"no answer to arq_\S+ within 0.1 s"):
            await client.ping(timeout=0.1)


async def test_answers_find_their_requests_when_many_are_under_way() -> None:
    """Answers that come in another order reach the right callers."""
    held: list[dict[str, Any]] = []

    async def backwards(socket: ServerConnection, frame: dict[str, Any]) -> None:
        if "client_id" in frame:
            await _well_behaved(socket, frame)
            return
        held.append(frame)
        if len(held) == 20:
            for earlier in reversed(held):
                seq = int(earlier["message"])
                await _tell(socket, type="ack", request_id=earlier["id"], seq=seq, room="lab", channel="bench")

    async with playing(backwards) as url, await WireClient.connect(url) as client:
        answers = await asyncio.gather(*(client.publish(str(n), ack=True) for n in range(20)))
        assert [answer["seq"] for answer in answers] == list(range(20))


async def test_cut_leaves_no_closing_handshake() -> None:
    """The server sees 1006, as when a cable is pulled."""
    codes: asyncio.Queue[int | None] = asyncio.Queue()

    async def converse(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.put_nowait(socket.close_code)

    async with serve(converse, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        client = await WireClient.connect(url, register=False)
        await client.cut()
        assert await asyncio.wait_for(codes.get(), 10) == 1006
        assert client.closed


async def test_a_paused_reader_leaves_bytes_in_the_servers_buffer() -> None:
    """While paused nothing is taken, so a server that sends enough gets stuck; resumed, all of it comes."""
    sent = 0

    async def flood(socket: ServerConnection, frame: dict[str, Any]) -> None:
        nonlocal sent
        if "client_id" in frame:
            await _well_behaved(socket, frame)
        elif frame.get("message") == "flood":
            for number in range(300):
                await _tell(socket, type="event", number=number, message="x" * 100_000)
                sent += 1

    async with playing(flood) as url, await WireClient.connect(url) as client:
        await client.publish("flood")
        client.pause_reading()
        with pytest.raises(AssertionError, match="no frame with number=299"):
            await client.expect(number=299, timeout=0.5)
        assert sent < 300
        client.resume_reading()
        await client.expect(number=299)
        assert sent == 300


async def test_reconnect_brings_token_and_positions() -> None:
    """The second registration resumes where the first connection stopped."""
    registrations: list[dict[str, Any]] = []

    async def remember(socket: ServerConnection, frame: dict[str, Any]) -> None:
        if "client_id" in frame:
            registrations.append(frame)
            if len(registrations) == 1:
                await _well_behaved(socket, frame)
                await _tell(socket, type="event", id="m", room="lab", channel="bench", seq=9, **{"from": "b"})
            else:
                heads = {"lab:bench": {"epoch": "e1", "seq": 12, "recovered": True}}
                payload = {"event": "registered", "client_id": frame["client_id"], "channels": heads}
                await _tell(socket, type="system", payload=payload)

    async with playing(remember) as url:
        first = await WireClient.connect(url, client_id="steady", room="lab:bench")
        await first.wait_seq("lab:bench", 9)
        await first.cut()
        second = await first.reconnect()
        assert registrations[1]["client_id"] == "steady"
        assert registrations[1]["resume"] == {
            "token": "token",
            "positions": {"lab:bench": {"epoch": "e1", "seq": 9}},
        }
        assert second.positions == {"lab:bench": {"epoch": "e1", "seq": 9}}, "the missed ones are still to come"
        await second.close()


async def test_a_recorder_notes_what_the_client_does() -> None:
    """Publishes, answers, deliveries and the end of the connection reach the recorder by themselves."""
    recorder = Recorder()

    async def server(socket: ServerConnection, frame: dict[str, Any]) -> None:
        await _well_behaved(socket, frame)
        if frame.get("ack"):
            await _tell(
                socket,
                type="event",
                id="arq_ghost",
                room="lab",
                channel="bench",
                seq=6,
                payload={},
                **{"from": "b"},
            )

    async with playing(server) as url:
        async with await WireClient.connect(url, recorder=recorder, client_id="a") as client:
            await client.publish("hello", ack=True)
            await client.wait_seq("lab:bench", 6)
            assert recorder.expected_presence() == {"lab:bench": {"a"}}
        assert recorder.expected_presence() == {}
    found = recorder.check({"lab:bench": []})
    assert {violation.invariant for violation in found} == {1, 2}
    assert "1 published (1 acknowledged" in recorder.summary()


async def test_a_refused_handshake_tells_its_status() -> None:
    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, origins=["https://good"]) as server:  # type: ignore[list-item]
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await refused_status(url, origin="https://bad") == 403
        with pytest.raises(AssertionError, match="accepted the handshake"):
            await refused_status(url, origin="https://good")
