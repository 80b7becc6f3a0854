"""Ask and answer: each answer reaches its asker, and a durable question survives both sides."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import arqonbus
from arqonbus import AskFailed, AskTimeout, Message, NoResponder, deadlines, errors, sync
from tests.clients_python.conftest import Cli, Connect
from tests.clients_python.test_recovery import broken
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


async def test_a_function_answers(client: Connect, fresh_room: str) -> None:
    adder, asker = await client(client_id=f"adder-{fresh_room}"), await client()

    @adder.answers
    async def add(question: Message) -> Any:
        match question.payload.get("do"):
            case "add":
                return {"sum": question.payload["a"] + question.payload["b"]}
            case "count":
                return 3
            case "fail":
                raise LookupError("there is none")
            case "myself":
                await question.reply({"by": "itself"}, message="a text")
                return None
            case _:
                return {1, 2}

    name = adder.client_id
    async with adder.inbox(since=0) as mail, asker.inbox(since=0) as replies:
        reply = await asker.ask(name, {"do": "add", "a": 1, "b": 2})
        assert (reply.payload, reply.sender, reply.error) == ({"sum": 3}, name, None)
        assert (await asker.ask(name, payload={"do": "count"})).payload == {"result": 3}
        with pytest.raises(AskFailed, match=r"LookupError\('there is none'\)") as caught:
            await asker.ask(name, {"do": "fail"})
        assert caught.value.reply.sender == name
        itself = await asker.ask(name, {"do": "myself"})
        assert (itself.payload, itself.text) == ({"by": "itself"}, "a text")
        with pytest.raises(AskFailed, match="JSON"):
            await asker.ask(name, {"do": "a set"})
        assert (await adder.ask(name, {"do": "count"})).payload == {"result": 3}, "a client may ask itself"
        await asker.private(name, "a letter")
        await adder.private(asker.client_id, "a letter")
        assert [(await box.get(WAIT)).text for box in (mail, replies)] == ["a letter", "a letter"]
    with pytest.raises(RuntimeError, match="answers already"):
        adder.answers(add)


async def test_a_plain_function_answers_in_a_thread_and_several_at_once(client: Connect) -> None:
    responder, asker = await client(), await client()
    both = asyncio.Event()
    loop = asyncio.get_running_loop()
    inside: list[str] = []

    @responder.answers(concurrency=2)
    def answer(question: Message) -> str:
        inside.append(question.text)
        if len(inside) == 2:
            loop.call_soon_threadsafe(both.set)
        asyncio.run_coroutine_threadsafe(both.wait(), loop).result(WAIT)
        return question.text.upper()

    replies = await asyncio.gather(*(asker.ask(responder.client_id, text) for text in ("a", "b", "c")))
    assert [reply.payload["result"] for reply in replies] == ["A", "B", "C"]


async def test_without_a_responder_it_fails_at_once_and_without_an_answer_in_time(client: Connect) -> None:
    asker, silent = await client(), await client()
    with pytest.raises(NoResponder) as nobody:
        await asker.ask("nobody-is-there", {"a": 1})
    assert nobody.value.details == [{"to": "nobody-is-there"}]
    with pytest.raises(AskTimeout) as late:
        await asker.ask(silent.client_id, {"a": 1}, timeout=0.2, id="mine")
    assert isinstance(late.value, TimeoutError)
    assert f"{silent.client_id} did not answer within 0.2 s." in str(late.value)
    assert late.value.details == [{"to": silent.client_id, "correlation": "mine", "message": "arq_mine"}]
    with pytest.raises(NoResponder):
        await asker.ask("nobody-is-there", {"a": 1}, timeout=None)
    async with silent.inbox(since=0) as inbox:
        question = await inbox.get(WAIT)
    assert question.ask == {"timeout": 0.2, "durable": False}
    with pytest.raises(errors.QuestionEnded):
        await question.reply({"too": "late"})
    with pytest.raises(ValueError, match="whole room"):
        await asker.ask("science:*", "hello")
    with pytest.raises(errors.ValidationFailed, match="ask"):
        await asker.ask(silent.client_id, "hello", timeout=-1)


async def test_a_durable_question_waits_for_both_sides(client: Connect, fresh_room: str, tmp_path: Path) -> None:
    name, identity = f"adder-{fresh_room}", tmp_path / "adder.identity"
    mine: dict[str, Any] = {"client_id": f"asker-{fresh_room}", "identity": tmp_path / "asker.identity"}
    seen: list[int] = []

    async def add(question: Message) -> dict[str, Any]:
        seen.append(question.payload["n"])
        return {"n": question.payload["n"]}

    async with await client(client_id=name, identity=identity) as adder, await client() as other:
        adder.answers(add)
        assert (await other.ask(name, {"n": 1})).payload == {"n": 1}
    async with await client(**mine) as asker:
        with pytest.raises(NoResponder):
            await asker.ask(name, {"n": 0})
        asking = asyncio.create_task(asker.ask(name, {"n": 2}, durable=True, timeout=60, id="second"))
        with pytest.raises(AskTimeout):
            await asker.ask(name, {"n": 3}, durable=True, timeout=0.1)
        asking.cancel()
        await asyncio.wait({asking})
    async with await client(client_id=name, identity=identity) as adder:
        adder.answers(add)
        # The third question may come, too: its time was over only a moment ago.
        await wait_for(lambda: 2 in seen, "the durable question is answered", deadline=WAIT)
        await wait_for(lambda: adder.marks[f"pm:{name}"].seq >= 3, "the mark is behind all questions", deadline=WAIT)
        async with await client(**mine) as asker:
            assert (await asker.ask(name, {"n": 2}, durable=True, timeout=60, id="second")).payload == {"n": 2}
    assert (seen[0], sorted(seen) in ([1, 2], [1, 2, 3])) == (1, True)
    async with await client(client_id=name, identity=identity) as adder, await client() as other:
        adder.answers(add)
        assert (await other.ask(name, {"n": 4})).payload == {"n": 4}
    assert seen[-1] == 4
    assert seen.count(2) == 1, "what was answered is not asked again"


async def test_what_was_asked_before_the_first_mark_is_answered(
    client: Connect, fresh_room: str, tmp_path: Path
) -> None:
    mine: dict[str, Any] = {"client_id": f"adder-{fresh_room}", "identity": tmp_path / "adder.identity"}
    asker = await client()
    async with await client(**mine) as adder, adder.inbox() as letters:
        asking = asyncio.create_task(asker.ask(adder.client_id, {"n": 1}, durable=True, timeout=60))
        await letters.get(WAIT)
    async with await client(**mine) as back:

        @back.answers
        async def add(question: Message) -> dict[str, Any]:
            return {"n": question.payload["n"]}

        assert (await asking).payload == {"n": 1}


async def test_a_question_whose_time_is_over_is_not_answered_after_a_return(
    client: Connect, fresh_room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, identity = f"adder-{fresh_room}", tmp_path / "adder.identity"
    seen: list[str] = []
    # The time on the server is known, so no more than this is left to differences of clocks.
    monkeypatch.setattr(deadlines, "BETWEEN_SERVERS", timedelta(0))
    async with await client(client_id=name, identity=identity) as adder, await client() as asker:
        await adder.mark(f"pm:{name}", 0)
        with pytest.raises(AskTimeout):
            await asker.ask(name, "too late", timeout=0.1)
    async with await client(client_id=name, identity=identity) as adder, await client() as asker:
        adder.answers(lambda question: seen.append(question.text))
        await asker.ask(name, "in time")
    assert seen == ["in time"]


async def test_a_question_in_work_holds_the_mark_back(client: Connect, fresh_room: str, tmp_path: Path) -> None:
    name, identity = f"slow-{fresh_room}", tmp_path / "slow.identity"
    asker, seen = await client(), []
    async with await client(client_id=name, identity=identity) as slow:

        @slow.answers
        async def answer(question: Message) -> dict[str, Any]:
            if question.payload["n"] == 1:
                await asyncio.Event().wait()
            return {}

        first = asyncio.create_task(asker.ask(name, {"n": 1}, durable=True, timeout=60))
        await wait_for(lambda: slow.marks.get(f"pm:{name}"), "it answers", deadline=WAIT)

        async def arrived() -> bool:
            return bool((await slow.history_page(f"pm:{name}")).messages)

        await wait_for(arrived, "the first question is there", deadline=WAIT)
        for number in (2, 3):
            await asker.ask(name, {"n": number})
        assert slow.marks[f"pm:{name}"].seq == 0
    async with await client(client_id=name, identity=identity) as back:

        @back.answers
        async def again(question: Message) -> dict[str, Any]:
            seen.append(question.payload["n"])
            return {"n": question.payload["n"]}

        assert (await first).payload == {"n": 1}
        await wait_for(lambda: back.marks[f"pm:{name}"].seq == 3, "the mark is behind all questions", deadline=WAIT)
    assert seen[0] == 1


async def test_a_broken_line_loses_neither_question_nor_answer(client: Connect) -> None:
    responder, asker = await client(), await client()
    asked, go = asyncio.Event(), asyncio.Event()

    @responder.answers
    async def answer(question: Message) -> dict[str, Any]:
        asked.set()
        await go.wait()
        return {"n": question.payload["n"]}

    asking = asyncio.create_task(asker.ask(responder.client_id, {"n": 1}, timeout=60))
    await asyncio.wait_for(asked.wait(), WAIT)
    await broken(asker)
    await broken(responder)
    go.set()
    assert (await asking).payload == {"n": 1}


async def test_a_reply_that_nobody_confirmed_is_sent_again(client: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    responder, asker = await client(), await client()
    lost: list[str] = []
    assert responder._link is not None
    send = responder._link.send

    async def without_the_first_reply(text: str) -> bool:
        if '"type":"reply"' in text.replace(" ", "") and not lost:
            lost.append(text)
            return True
        return await send(text)

    monkeypatch.setattr(responder._link, "send", without_the_first_reply)

    @responder.answers
    async def answer(question: Message) -> dict[str, Any]:
        monkeypatch.setattr(responder, "_timeout", 0.3)
        return {"n": 1}

    assert (await asker.ask(responder.client_id, {"n": 1}, timeout=WAIT)).payload == {"n": 1}
    assert lost


async def test_each_answer_reaches_its_asker_only(client: Connect) -> None:
    buses = [await client() for _ in range(8)]

    def reply_as(bus: arqonbus.Bus) -> None:
        @bus.answers
        async def answer(question: Message) -> dict[str, Any]:
            return {"by": bus.client_id, "to": question.sender, "n": question.payload["n"]}

    for bus in buses:
        reply_as(bus)

    async def ask(number: int) -> None:
        asker, responder = buses[number % 8], buses[number * 3 % 7]
        reply = await asker.ask(responder.client_id, {"n": number})
        assert reply.payload == {"by": responder.client_id, "to": asker.client_id, "n": number}

    await asyncio.gather(*(ask(number) for number in range(200)))


async def test_the_end_of_the_bus_ends_its_questions(client: Connect) -> None:
    asker, silent = await client(), await client()
    asking = asyncio.create_task(asker.ask(silent.client_id, "hello"))
    async with silent.inbox(since=0) as inbox:
        assert (await inbox.get(WAIT)).ask
    await asker.close()
    with pytest.raises(arqonbus.BusClosed):
        await asking


async def test_the_blocking_client_asks_and_answers(shared_server: BusServer) -> None:
    def both() -> None:
        with sync.connect(shared_server.url) as responder, sync.connect(shared_server.url) as asker:

            @responder.answers
            def answer(question: sync.Message | sync.Answer) -> dict[str, Any]:
                if question.text == "fail":
                    raise LookupError("there is none")
                question.reply({"said": question.text})
                return {}

            assert asker.ask(responder.client_id, "hello").payload == {"said": "hello"}
            with pytest.raises(AskFailed, match="there is none") as caught:
                asker.ask(responder.client_id, "fail")
            assert isinstance(caught.value.reply, sync.Message)

    await asyncio.to_thread(both)


async def test_the_command_line_asks(client: Connect, cli: Cli, fresh_room: str) -> None:
    responder = await client(client_id=f"adder-{fresh_room}")

    @responder.answers
    async def answer(question: Message) -> dict[str, Any]:
        if question.text == "wait":
            await asyncio.Event().wait()
        if question.text == "fail":
            raise LookupError("there is none")
        return {"said": question.text, "payload": question.payload}

    async def ask(*arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(cli, "ask", *arguments)
        return done.returncode, done.stdout, done.stderr

    code, output, _ = await ask(responder.client_id, "hello", "-p", '{"a": 1}')
    assert (code, json.loads(output)) == (0, {"said": "hello", "payload": {"a": 1}})
    code, _, problem = await ask("nobody-is-there", "hello")
    assert (code, "nobody-is-there is not connected" in problem, "--durable" in problem) == (5, True, True)
    code, _, problem = await ask("nobody-was-here", "hello", "--durable")
    assert (code, "No client of the name nobody-was-here" in problem, "--durable" in problem) == (5, True, False)
    code, _, problem = await ask(responder.client_id, "wait", "--timeout", "0.2")
    assert (code, "ASK_TIMEOUT" in problem) == (7, True)
    code, _, problem = await ask(responder.client_id, "fail")
    assert (code, "there is none" in problem) == (1, True)
