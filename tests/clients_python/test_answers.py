"""Readers of streamed messages: early, late, slow ones, those without parts, and the history."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import arqonbus
from arqonbus import Answer
from tests.clients_python.conftest import Connect
from tests.clients_python.test_recovery import broken, quick
from tests.clients_python.test_stream import WAIT, opened, whole, words
from tests.harness.waiting import wait_for

# What depends on the database is tested on both in tests/reliability and tests/log.
pytestmark = pytest.mark.embedded


async def test_an_answer_grows_and_is_one_message(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    async with reader.subscribe(address) as messages:
        async with agent.stream(address, payload={"role": "assistant"}, roll_up=0) as out:
            answer = await opened(messages)
            assert (answer.id, answer.sender, answer.payload) == (out.of, agent.client_id, {"role": "assistant"})
            assert (answer.state, answer.text, answer.seq) == ("open", "", 1)
            await out.write("Hel")
            await wait_for(lambda: answer.text == "Hel", "the first part", deadline=WAIT)
            await out.write("lo")
            await out.end(payload={"usage": {"out": 2}})
            assert (out.state, out.end_seq, out.have) == ("complete", 2, 2)
        assert await whole(answer) == "Hello"
        assert (await answer.ended()).state == "complete"
        assert (answer.end_payload, answer.end_seq, answer.have) == ({"usage": {"out": 2}}, 2, 2)
        await agent.publish(address, "next")
        after = await messages.get(WAIT)
        assert (after.text, after.seq, after.state) == ("next", 3, None), "the end is no message of its own"
        assert messages.position is not None
        assert messages.position.seq == 3


async def test_who_comes_late_sees_the_answer_once(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, late, past = await client(), await client(), await client()
    async with agent.stream(address, payload={"role": "assistant"}, roll_up=0) as out:
        for word in words(30):
            await out.write(word)
        await out.flush()
        async with late.subscribe(address) as from_now, past.subscribe(address, since=0) as from_start:
            one, other = await opened(from_now), await opened(from_start)
            assert (one.id, one.late, other.id, other.late) == (out.of, True, out.of, False)
            assert (one.sender, other.sender, other.payload) == (
                agent.client_id,
                agent.client_id,
                {"role": "assistant"},
            )
            following = asyncio.gather(whole(one), whole(other))
            await out.write("and the rest")
            await out.end()
            assert set(await following) == {"".join(words(30)) + "and the rest"}
            await agent.publish(address, "next")
            assert [(await from_now.get(WAIT)).text, (await from_start.get(WAIT)).text] == ["next", "next"]
    async with late.subscribe(address, since=arqonbus.Position(1)) as after_opening:
        end = await opened(after_opening)
        assert (end.id, end.late, end.state, end.text) == (out.of, True, "complete", one.text)


async def test_who_is_in_the_channel_before_sees_an_open_answer_too(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, member = await client(), await client()
    await member.join(address)
    async with agent.stream(address, roll_up=0) as out:
        await out.write("one ")
        await out.flush()
        start = await client(room=fresh_room, channel="42")  # Its snapshot comes before any subscription.
        async with (
            member.subscribe(address) as first,
            start.subscribe(address) as third,
            member.subscribe(address) as second,
        ):
            answers = [await opened(messages) for messages in (first, second, third)]
            assert {(answer.id, answer.sender, answer.late) for answer in answers} == {(out.of, agent.client_id, True)}
            following = asyncio.gather(*map(whole, answers))
            await out.write("two")
            await out.end()
            assert await following == ["one two"] * 3
            await agent.publish(address, "next")
            for messages in (first, second, third):
                assert (await messages.get(WAIT)).text == "next"


async def test_a_slow_reader_gets_every_answer_whole(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    async with reader.subscribe(address, buffer=2) as slow:
        for number in range(5):
            async with agent.stream(address, roll_up=0) as out:
                for word in words(3):
                    await out.write(f"{number}{word}")
            await agent.publish(address, f"between {number}")
        async with agent.stream(address, roll_up=0) as out:
            await out.write("the last one ")
            for number in range(5):
                answer = await opened(slow)
                assert await whole(answer) == "".join(f"{number}{word}" for word in words(3))
                assert (await slow.get(WAIT)).text == f"between {number}"
            last = await opened(slow)
            await out.write("grows")
            await out.end()
            assert await whole(last) == "the last one grows"
        assert slow.gaps == 0


async def test_without_parts_the_text_comes_with_the_end(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, quiet, loud = await client(), await client(backoff=quick()), await client()
    async with quiet.subscribe(address, parts=False) as few, loud.subscribe(address) as all_of_it:
        await broken(quiet)
        await quiet.ping()
        async with agent.stream(address, roll_up=0) as out:
            answer, other = await opened(few), await opened(all_of_it)
            await out.write("one")
            await wait_for(lambda: other.text == "one", "the part", deadline=WAIT)
            await quiet.ping()
            assert answer.text == ""
        assert await whole(answer) == "one"


async def test_the_history_has_one_message_for_an_answer(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent = await client()
    async with agent.stream(address, payload={"role": "assistant"}) as out:
        await out.write("Hello")
        await out.end(payload={"usage": 1})
    await agent.publish(address, "thanks")
    folded = [message async for message in agent.history(address)]
    assert [(message.text, message.state) for message in folded] == [("Hello", "complete"), ("thanks", None)]
    (answer, _) = (await agent.history_page(address)).messages
    assert isinstance(answer, Answer)
    assert (answer.id, answer.payload, answer.end_payload, answer.end_seq) == (
        out.of,
        {"role": "assistant"},
        {"usage": 1},
        2,
    )
    raw = (await agent.history_page(address, fold=False)).messages
    assert [message.type for message in raw] == ["event", "stream_end", "event"]
    async with agent.stream(address) as out:
        await out.write("so far")
        await out.flush()
        (growing,) = (await agent.history_page(address, limit=1)).messages
        assert (growing.text, growing.state) == ("so far", "open")


async def test_private_answers_and_own_answers_are_read_too(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    async with reader.inbox() as inbox, agent.subscribe(address, echo=True) as own:
        async with agent.stream(f"pm:{reader.client_id}", roll_up=0) as out:
            answer = await opened(inbox)
            await out.write("psst")
            await wait_for(lambda: answer.text == "psst", "the part", deadline=WAIT)
        assert (await asyncio.wait_for(answer.ended(), WAIT)).private
        async with agent.stream(address, roll_up=0) as out:
            mine = await opened(own)
            await out.write("one")
            await wait_for(lambda: mine.text == "one", "our own part", deadline=WAIT)
        assert (await asyncio.wait_for(mine.ended(), WAIT)).state == "complete"
        assert own.position is not None
        assert (own.position.seq, own._growing) == (out.end_seq, {}), "our own end counts as read"


async def test_an_inbox_goes_on_behind_the_end_of_an_answer(client: Connect, fresh_room: str, tmp_path: Path) -> None:
    agent, file = await client(), tmp_path / "reader.identity"
    reader = await client(client_id=f"reader-{fresh_room}", identity=file)
    async with reader.inbox() as inbox:
        async with agent.stream(f"pm:{reader.client_id}") as out:
            await out.write("psst")
        answer = await opened(inbox)
        assert await whole(answer) == "psst"
        place = inbox.position
    await reader.close()
    await agent.private(reader.client_id, "next")
    again = await client(identity=file)
    async with again.inbox() as inbox, again.inbox(since=place) as other:
        assert [(await inbox.get(WAIT)).text, (await other.get(WAIT)).text] == ["next", "next"]


async def test_an_answer_whose_rest_cannot_arrive_says_so(client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    agent, reader = await client(), await client()
    async with agent.stream(address) as out:
        async with reader.subscribe(address, since=0) as messages:
            answer = await opened(messages)
            waiting: asyncio.Future[Any] = asyncio.ensure_future(answer.ended())
            await out.write("one")
            await wait_for(lambda: answer.text == "one", "the part", deadline=WAIT)
        with pytest.raises(arqonbus.BusClosed, match="left"):
            await asyncio.wait_for(waiting, WAIT)
        assert (answer.text, answer.state) == ("one", "open")
