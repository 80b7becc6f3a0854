"""The owner of a streamed message, against real servers: lines are cut, servers killed, owners replaced."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

import arqonbus
from arqonbus import Answer, Message, Subscription, errors
from arqonbus.stream import id_of
from tests.clients_python.conftest import Connect
from tests.clients_python.test_recovery import broken, quick
from tests.conftest import StartServer
from tests.harness.line import delayed_line
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

# What depends on the database is tested on both in tests/reliability and tests/log.
pytestmark = pytest.mark.embedded

WAIT = 30.0


def client_url(bus: arqonbus.Bus) -> str:
    """Where a client is connected to."""
    return bus._dial.url


def words(number: int) -> list[str]:
    """Pieces that are all different, so that a missing or repeated one shows."""
    return [f"w{n} " for n in range(number)]


async def opened(subscription: Subscription) -> Answer:
    """The next message, which is a streamed one."""
    message = await subscription.get(WAIT)
    assert isinstance(message, Answer)
    return message


async def whole(answer: Message) -> str:
    """Follow an answer to its end. At every moment its text is a beginning of the whole."""
    seen: list[str] = []
    async with asyncio.timeout(WAIT):
        async for delta in answer.deltas():
            seen.append("".join([*seen[-1:], delta]))
    assert all(answer.text.startswith(text) for text in seen)
    assert (seen[-1] if seen else "") == answer.text
    return answer.text


async def test_forty_milliseconds_of_tokens_are_one_part(client: Connect, fresh_room: str) -> None:
    agent = await client()
    async with agent.stream(f"{fresh_room}:42", roll_up=60) as out:
        for word in words(500):
            await out.write(word)
        await out.flush()
        assert out.have == 2, "the first token goes at once, and the others of that time together"
    assert out.have == 2


async def test_parts_are_objects(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    parts = [{"type": "TEXT_MESSAGE_CONTENT", "delta": word} for word in words(3)]
    async with reader.subscribe(address) as messages:
        async with agent.stream(address, mode="parts") as out:
            answer = await opened(messages)
            for part in parts:
                await out.part(part)
            with pytest.raises(TypeError):
                await out.write("text")
        assert [part async for part in answer.deltas()] == parts
        assert (answer.parts, answer.mode, answer.text) == (parts, "parts", "")


async def test_pipe_takes_what_an_iterator_yields_and_an_exception_aborts(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()

    async def model() -> AsyncIterator[str]:
        for word in words(20):
            yield word
        raise LookupError("the model is away")

    async with reader.subscribe(address) as messages:
        with pytest.raises(LookupError):
            async with agent.stream(address, roll_up=0) as out:
                await out.pipe(model())
        answer = await opened(messages)
        assert await whole(answer) == "".join(words(20))
        assert (answer.state, out.state) == ("aborted", "aborted")


async def test_a_cancelled_task_aborts_its_stream(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()

    async def write() -> None:
        async with agent.stream(address) as out:
            await out.write("so far")
            await asyncio.sleep(3600)

    async with reader.subscribe(address) as messages:
        task = asyncio.ensure_future(write())
        answer = await opened(messages)
        await wait_for(lambda: answer.text == "so far", "the text", deadline=WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await asyncio.wait_for(answer.ended(), WAIT)).state == "aborted"
        assert len(agent._streams) == 0


async def test_a_stop_request_ends_the_iterator_and_the_answer(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    closed = asyncio.Event()

    async def model() -> AsyncIterator[str]:
        try:
            yield "thinking"
            await asyncio.sleep(3600)
        finally:
            closed.set()

    async with reader.subscribe(address) as messages:

        async def write() -> arqonbus.Stream:
            async with agent.stream(address) as out:
                assert not out.stop_requested
                await out.pipe(model())
                assert out.stop_requested
            return out

        task = asyncio.ensure_future(write())
        answer = await opened(messages)
        await wait_for(lambda: answer.text == "thinking", "the text", deadline=WAIT)
        stopped = await reader.stop_stream(answer)
        assert (stopped["of"], stopped["stopping"]) == (answer.id, True)
        out = await asyncio.wait_for(task, WAIT)
        assert closed.is_set()
        assert (out.state, (await answer.ended()).state, answer.text) == ("stopped", "stopped", "thinking")


async def test_a_steer_is_taken_or_stands_in_untaken(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    async with reader.subscribe(address) as messages:
        async with agent.stream(address) as out:
            answer = await opened(messages)
            first = await reader.publish(address, "shorter", steer=answer)
            second = await reader.publish(address, "in French", steer=answer.id)
            assert (first.steered, second.steered) == (True, True)
            steers = out.steers()
            one, two = await anext(steers), await anext(steers)
            assert [(one.id, one.text), (two.id, two.text)] == [(first.id, "shorter"), (second.id, "in French")]
            one.took()
            await out.write("short")
        assert [steer async for steer in steers] == []
        assert (await answer.ended()).untaken == out.untaken == (second.id,)
        late = await reader.publish(address, "too late", steer=answer)
        assert late.steered is False
        assert (await reader.publish(address, "ordinary")).steered is None
        kept = [message.steer async for message in reader.history(address)]
        assert kept == [None, out.of, out.of, out.of, None]


@pytest.mark.parametrize("graceful", [False, True], ids=["killed", "graceful"])
async def test_each_part_is_kept_once_over_a_restart_of_the_server(
    start_server: StartServer, client: Connect, fresh_room: str, graceful: bool
) -> None:
    server = start_server(env={"ARQONBUS_RETRY_SPREAD": "0.2"})
    address = f"{fresh_room}:42"
    agent, reader = await client(server, backoff=quick()), await client(server, backoff=quick())
    async with reader.subscribe(address) as messages, agent.stream(address, roll_up=0, window=8) as out:
        answer = await opened(messages)
        following = asyncio.ensure_future(whole(answer))
        for word in words(60):
            await out.write(word)
        restarting = asyncio.ensure_future(asyncio.to_thread(server.restart, graceful=graceful))
        for word in words(120)[60:]:
            await out.write(word)
        await restarting
        await out.end()
        assert await following == "".join(words(120))
        assert out.have == answer.have == 120
        assert agent.connections == reader.connections == 2


async def test_lines_that_break_again_and_again_lose_and_double_nothing(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(backoff=quick()), await client(backoff=quick())
    async with reader.subscribe(address) as messages, agent.stream(address, roll_up=0) as out:
        answer = await opened(messages)
        following = asyncio.ensure_future(whole(answer))
        texts = words(200)
        for victim, at in zip((agent, reader, agent, reader, agent), range(20, 200, 40), strict=False):
            for word in texts[at - 20 : at + 20]:
                await out.write(word)
            await broken(victim)
        await out.end()
        assert await following == "".join(texts)
        assert (agent.connections, reader.connections, out.have) == (4, 3, 200)
        assert messages.gaps == 0


async def test_a_slow_line_that_breaks_loses_and_doubles_nothing(
    shared_server: BusServer, client: Connect, fresh_room: str
) -> None:
    """The window is small, so the owner often waits, and much is on the way when the line breaks."""
    address = f"{fresh_room}:42"
    async with delayed_line(shared_server.host, shared_server.port, seed=7) as line:
        there = await client()
        async with arqonbus.connect(line.url, backoff=quick()) as agent, there.subscribe(address) as messages:
            async with agent.stream(address, roll_up=0.005, window=4) as out:
                answer = await opened(messages)
                following = asyncio.ensure_future(whole(answer))
                for number, word in enumerate(words(300)):
                    await out.write(word)
                    if number % 100 == 60:
                        line.cut()
                    await asyncio.sleep(0.001)
            assert await following == "".join(words(300))
            assert agent.connections == 4


async def away(bus: arqonbus.Bus) -> None:
    """Cut the line, and wait until the client knows it."""
    assert bus._link is not None
    bus._link.abort()
    await wait_for(lambda: not bus.connected, "the line is broken", deadline=WAIT)


async def test_steers_and_a_stop_while_the_owner_is_away_reach_it_when_it_is_back(
    client: Connect, fresh_room: str
) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(backoff=arqonbus.Backoff(first=0.5, most=0.5)), await client()
    async with agent.stream(address) as out:
        await written(out, "before")
        await away(agent)
        steered = await reader.publish(address, "quick", steer=out.of)
        steer = await asyncio.wait_for(anext(out.steers()), WAIT)
        assert (steer.id, steer.text) == (steered.id, "quick")
        assert out.waiting_steers() == [], "each comes once"
        await away(agent)
        await reader.stop_stream(out.of)
        await asyncio.wait_for(out.stop_requested.wait(), WAIT)
    assert (out.state, agent.connections) == ("stopped", 3)


async def test_an_adopted_stream_returns_after_a_broken_line(
    client: Connect, fresh_room: str, admin_token: str
) -> None:
    address = f"{fresh_room}:42"
    first, second = await client(token=admin_token), await client(token=admin_token, backoff=quick())
    old = await first.stream(address, roll_up=0)
    await written(old, "one ")
    async with second.adopt_stream(old.of, roll_up=0) as new:
        await broken(second)
        await written(new, "two ")
        assert second._link is not None
        second._link.abort()
        await new.write("three")
    assert (new.have, new.attempt, new.state) == (3, 2, "complete")
    assert [message.text async for message in second.history(address)] == ["one two three"]


async def test_two_writers_of_a_run_in_one_process_do_not_mix(client: Connect, fresh_room: str) -> None:
    address, run = f"{fresh_room}:42", f"run {secrets.token_hex(4)}"
    async with arqonbus.connect(client_url(await client()), client_id=fresh_room) as bus:
        await broken(bus)  # Its id is proved now.
        old = await bus.stream(address, run=run, roll_up=0).open()
        async with bus.stream(address, run=run, roll_up=0) as new:
            assert (old.of, new.of, new.attempt) == (id_of(run), id_of(run), 2)
            await lost(old)
            await written(new, "the only text")
        assert [message.text async for message in bus.history(address)] == ["the only text"]


async def test_a_server_that_refuses_too_many_frames_gets_each_part_once(
    start_server: StartServer, client: Connect, fresh_room: str
) -> None:
    server = start_server(env={"ARQONBUS_RATE_LIMIT": "20"})
    bus, texts = await client(server, backoff=quick()), words(100)
    bus._pacer.limit(0, None)  # It does not keep below the limit, as if others used up the rate.
    async with bus.stream(f"{fresh_room}:42", roll_up=0) as out:
        await written(out, *texts)
    assert [message.text async for message in bus.history(f"{fresh_room}:42")] == ["".join(texts)]


async def test_a_run_goes_on_in_another_process_and_the_old_owner_hears_it(
    client: Connect, fresh_room: str, admin_token: str
) -> None:
    address, run = f"{fresh_room}:42", f"run-{secrets.token_hex(4)}"
    first, second, reader = await client(token=admin_token), await client(token=admin_token), await client()
    async with reader.subscribe(address) as messages:
        old = await first.stream(address, run=run, roll_up=0)
        await old.write("dead text")
        await old.flush()
        answer = await opened(messages)
        assert answer.id == id_of(run) == f"arq_{run}"
        await wait_for(lambda: answer.text == "dead text", "the text", deadline=WAIT)
        deltas = answer.deltas()
        assert await anext(deltas) == "dead text"

        new = await second.stream(address, run=run, roll_up=0)
        assert (new.of, new.have, new.attempt) == (old.of, 0, 2)
        with pytest.raises(arqonbus.StreamReset):
            await anext(deltas)
        await lost(old)
        await new.write("a new start")
        await new.flush()

        async with first.adopt_stream(new.of) as kept:
            assert (kept.have, kept.attempt) == (1, 3)
            await kept.write(", and its end")
        await lost(new, arqonbus.StreamEnded, arqonbus.StreamLost)
        assert (await asyncio.wait_for(answer.ended(), WAIT)).text == "a new start, and its end"
        assert answer.state == "complete"
    with pytest.raises(arqonbus.StreamEnded):
        await second.stream(address, run=run).open()


async def lost(stream: arqonbus.Stream, *kinds: type[Exception]) -> None:
    """Revive an owner: the server refuses what it writes, and its end."""
    kinds = kinds or (arqonbus.StreamLost,)
    with pytest.raises(kinds):
        await written(stream, "revived")
    with pytest.raises(kinds):
        await stream.end()
    if kinds == (arqonbus.StreamLost,):
        assert stream.state == "lost"


async def written(stream: arqonbus.Stream, *texts: str) -> None:
    """Write texts, and wait until they are kept."""
    for text in texts:
        await stream.write(text)
    await stream.flush()


async def too_much(stream: arqonbus.Stream, limit: int) -> None:
    """Write more than a message may have."""
    async with stream as out:
        await out.write("kept")
        with pytest.raises(errors.Unsendable):
            await out.write("\ud800")
        await written(out, "x" * limit)


async def test_what_cannot_be_kept_is_said_and_ends_the_answer(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    async with reader.subscribe(address) as messages:
        out = agent.stream(address, roll_up=0)
        with pytest.raises(errors.FrameTooLarge, match=str(agent.limits["frame_bytes"])):
            await too_much(out, agent.limits["frame_bytes"])
        answer = await opened(messages)
        limit = agent.limits["frame_bytes"]
        assert limit - 1024 < len(await whole(answer)) < limit
        assert answer.text.strip("x") == "kept"
        assert answer.state == "aborted"
    with pytest.raises(RuntimeError, match="async with"):
        await agent.stream(address).write("x")
    with pytest.raises(ValueError, match="mode"):
        agent.stream(address, mode="bytes")
    with pytest.raises(errors.NotFound):
        await agent.stop_stream("arq_nothing")


async def test_an_end_that_cannot_be_sent_takes_no_part_with_it(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent = await client()
    out = agent.stream(address, roll_up=0)

    async def end_with_too_much() -> None:
        async with out:
            await out.write("kept")
            await out.end(payload={"x": "y" * agent.limits["frame_bytes"]})

    with pytest.raises(errors.FrameTooLarge):
        await end_with_too_much()
    assert (out.state, out.have) == ("aborted", 1)
    assert [message.text async for message in agent.history(address)] == ["kept"]


async def test_the_id_of_a_stream_may_have_a_slash(client: Connect, fresh_room: str) -> None:
    agent = await client()
    async with agent.stream(f"{fresh_room}:42", id=f"{fresh_room}/7", roll_up=0) as out:
        await written(out, "one ", "two")
    assert (out.state, out.have, len(agent._streams)) == ("complete", 2, 0)


async def test_an_owner_whose_return_is_refused_hears_it_once(
    client: Connect, fresh_room: str, admin_token: str
) -> None:
    address = f"{fresh_room}:42"
    admin = await client(token=admin_token)
    agent = await client(token=admin_token, backoff=arqonbus.Backoff(first=0.5, most=0.5))
    old = await admin.stream(address, roll_up=0)
    await written(old, "one ")
    out = await agent.adopt_stream(old.of)
    await away(agent)
    await admin.delete_channel(address)
    await wait_for(lambda: out._failure is not None, "the refusal", deadline=WAIT)
    with pytest.raises(errors.NotFound):
        await out.end()
    await wait_for(lambda: not out._returning, "no further request", deadline=WAIT)
    assert (agent.connections, len(agent._streams)) == (2, 0)


async def test_a_run_of_another_channel_is_refused_and_its_message_stays(client: Connect, fresh_room: str) -> None:
    run = f"run-{secrets.token_hex(4)}"
    for by_another in (False, True):
        run += "x"
        owner = await client()
        other = await client() if by_another else owner
        async with owner.stream(f"{fresh_room}:42", run=run, roll_up=0) as out:
            await written(out, "mine")
            for keep in (False, True):
                with pytest.raises(errors.StreamNotFound, match=f"The run '{run}' names a message of another channel"):
                    await other.stream(f"{fresh_room}:43", run=run, keep=keep).open()
            with pytest.raises(errors.StreamNotFound, match=r"The id 'arq_.* is unique on the whole bus"):
                await other.stream(fresh_room, id=out.of).open()
            await written(out, " still")
            assert (out.have, out.attempt) == (2, 1)
        with pytest.raises(errors.StreamNotFound, match="another channel"):
            await other.stream(f"{fresh_room}:43", run=run).open()
    bus = await client()
    await bus.stream(None, run=run + "y").open()
    async with bus.stream(None, run=run + "y") as again:
        assert again.attempt == 2, "without an address both are in the initial channel"


async def test_what_is_no_text_is_refused_at_once(client: Connect, fresh_room: str) -> None:
    agent = await client()
    async with agent.stream(f"{fresh_room}:42") as out:
        for wrong in (None, 5, b"x", {"type": "x"}):
            with pytest.raises(TypeError, match="grows by strings"):
                await out.write(wrong)  # type: ignore[arg-type]
        await out.write("fine")
    async with agent.stream(f"{fresh_room}:42", mode="parts") as parts:
        with pytest.raises(TypeError, match="JSON object"):
            await parts.part("x")  # type: ignore[arg-type]
    assert [message.text async for message in agent.history(f"{fresh_room}:42")] == ["fine", ""]


async def test_wrong_names_of_messages_and_times_are_refused(client: Connect, fresh_room: str) -> None:
    agent = await client()
    for wrong, kind in ((None, TypeError), (5, TypeError), ("", ValueError)):
        with pytest.raises(kind, match="`of`"):
            await agent.stop_stream(wrong)  # type: ignore[arg-type]
        with pytest.raises(kind, match="`of`"):
            agent.adopt_stream(wrong)  # type: ignore[arg-type]
        if wrong is not None:
            with pytest.raises(kind, match="`steer`"):
                await agent.publish(f"{fresh_room}:42", "x", steer=wrong)  # type: ignore[arg-type]
    for roll_up in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="roll_up"):
            agent.stream(f"{fresh_room}:42", roll_up=roll_up)
    with pytest.raises(TypeError, match="roll_up"):
        agent.stream(f"{fresh_room}:42", roll_up="fast")  # type: ignore[arg-type]


async def test_a_long_text_is_several_parts(client: Connect, fresh_room: str) -> None:
    agent = await client()
    text = "\u00e4\U0001f600\n" * 20_000  # 160 kB, and 20 kB more in JSON
    async with agent.stream(f"{fresh_room}:42") as out:
        await out.write(text)
        await out.flush()
        assert out.have > 4
    async with agent.stream(f"{fresh_room}:42", roll_up=60, window=2) as last:
        await last.write("1")
        await last.write(text)
    assert [message.text async for message in agent.history(f"{fresh_room}:42")] == [text, "1" + text]


async def test_an_end_that_is_refused_leaves_no_open_message(client: Connect, fresh_room: str) -> None:
    agent = await client()
    limit = agent.limits["frame_bytes"]

    async def written_at_once(out: arqonbus.Stream, problem: Exception | None) -> None:
        async with out:
            await out.write("1")
            out._text.append("x" * limit)  # It waits, as a text of the last 40 ms does.
            if problem is not None:
                raise problem

    for problem, expected in ((None, errors.FrameTooLarge), (KeyError("x"), KeyError)):
        out = agent.stream(f"{fresh_room}:42", roll_up=60)
        with pytest.raises(expected):
            await written_at_once(out, problem)
        assert out.state == "aborted"
    texts = [message.text async for message in agent.history(f"{fresh_room}:42")]
    assert all(limit - 1024 < len(text) < limit for text in texts)


async def test_an_opening_that_timed_out_leaves_its_run_to_the_next_attempt(
    client: Connect, fresh_room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, bus = f"{fresh_room}:answers", await client(timeout=0.5)
    answered = bus._answered
    monkeypatch.setattr(bus, "_answered", lambda frame: None)
    with pytest.raises(TimeoutError):
        await bus.stream(address, run=fresh_room).open()
    monkeypatch.setattr(bus, "_answered", answered)
    bus._timeout = WAIT
    async with bus.stream(address, run=fresh_room) as out:
        await out.write("the answer")
    assert (out.state, (await bus.history_page(address)).messages[0].text) == ("complete", "the answer")
