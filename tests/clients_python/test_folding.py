"""Amendments in the Python client: the rule of the server, and what subscriptions and pages show of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

import pytest

import arqonbus
from arqonbus import Fold, Message, errors, sync
from arqonbus.folding import folded
from tests.clients_python.conftest import Connect
from tests.conftest import StartServer
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

WAIT = 20.0

FOLDS = json.loads((PROJECT_ROOT / "tests" / "protocol" / "folds.json").read_text())


@pytest.mark.pure
@pytest.mark.parametrize("case", FOLDS, ids=[case["name"] for case in FOLDS])
def test_a_message_is_folded_as_on_the_server(case: dict[str, Any]) -> None:
    before = json.dumps([case["message"], case["amendments"]])
    assert folded(case["message"], case["amendments"]) == case["folded"]
    assert list(folded(case["message"], case["amendments"]).get("reactions", {})) == list(
        case["folded"].get("reactions", {})
    )
    assert json.dumps([case["message"], case["amendments"]]) == before
    fold = Fold()
    fold.take(Message.of(case["message"]))
    for amendment in random.Random(1).sample(case["amendments"], len(case["amendments"])):
        fold.take(Message.of(amendment))
    assert next(message for message in fold.messages if message.id == case["message"]["id"]).raw == case["folded"]


@pytest.mark.pure
def test_a_fold_remembers_the_newest_messages() -> None:
    fold = Fold(keep=2)
    frames: list[dict[str, Any]] = [
        {"id": f"m{n}", "room": "a", "channel": "b", "from": "me", "seq": n, "payload": {}} for n in (1, 2, 3)
    ]
    for frame in frames:
        fold.take(Message.of(frame))
    react = {**frames[0], "type": "amend", "of": "m1", "of_seq": 1, "do": "react", "reaction": "x", "seq": 4}
    assert fold.take(Message.of(react)) is None
    assert [message.id for message in fold.messages] == ["m2", "m3"]
    with pytest.raises(ValueError, match="keep"):
        Fold(keep=0)


@pytest.mark.pure
def test_a_fold_drops_the_content_of_erased_messages() -> None:
    frame: dict[str, Any] = {
        "id": "m1", "type": "event", "room": "a", "channel": "b", "from": "me", "seq": 1, "message": "secret", "payload": {},
    }  # fmt: skip
    edit = {**frame, "type": "amend", "of_seq": 1, "do": "edit", "edits": ["message"], "message": "secreter", "seq": 2}
    fold = Fold()
    for each in (frame, edit):
        fold.take(Message.of(each))

    def erase(*messages: dict[str, Any]) -> None:
        fold.erase({"room": "a", "channel": "b", "payload": {"event": "erased", "messages": messages}})

    erase({"seq": 2, "of_seq": 1, "do": "edit"}, {"seq": 9}, {"seq": 3, "of_seq": 1})
    fold.erase({**frame, "payload": {"event": "presence", "messages": [{"seq": 1}]}})
    (message,) = fold.messages
    assert message.edited is not None
    assert "secret" not in json.dumps(message.raw)
    erase({"seq": 1})
    assert fold.messages[0].erased
    again = fold.take(Message.of(frame))
    assert again is not None
    assert again.erased
    late = Fold()
    late.take(Message.of(frame))
    assert late.take(Message.of({**frame, "message": None, "erased": True})) is late.messages[0]
    assert late.messages[0].erased


async def test_live_late_and_history_readers_see_one_state(
    shared_server: BusServer, client: Connect, fresh_room: str
) -> None:
    address = f"{fresh_room}:chat"
    alice, bob = await client(client_id=f"alice-{fresh_room}"), await client()
    async with bob.subscribe(address, fold=True) as live:
        first = await alice.publish(address, "helo")
        second = await alice.publish(address, "second", payload={"n": 1})
        seen = await live.get(WAIT)
        assert seen.folded is seen
        assert (await live.get(WAIT)).text == "second"
        await alice.edit(first, "hello")
        await seen.react("👍")
        await alice.react(first.id, "👍", address=address)
        await alice.delete(second)
        edited = await live.get(WAIT)
        assert edited.amends == first.id
        assert edited.folded is not None
        assert (edited.folded.text, edited.folded.seq) == ("hello", first.seq)
        assert edited.folded.edited == {"seq": 3, "at": edited.raw["timestamp"], "by": alice.client_id}
        await live.get(WAIT)
        last = await live.get(WAIT)
        assert last.folded is not None
        assert last.folded.reactions == {"👍": [bob.client_id, alice.client_id]}
        gone = (await live.get(WAIT)).folded
        assert gone is not None
        assert (gone.text, gone.payload, bool(gone.deleted)) == ("", {}, True)
        await seen.unreact("👍")
        state = (await live.get(WAIT)).folded
    with pytest.raises(errors.Forbidden):
        await bob.edit(first, "mine now")
    with pytest.raises(errors.MessageNotFound):
        await bob.react("arq_nothing", "x", address=address)
    page = await bob.history_page(address)
    assert [message.raw for message in page.messages] == [state and state.raw, gone.raw]
    async with bob.subscribe(address, since=0, fold=True) as late:
        states = {}
        for _ in range(7):
            message = (await late.get(WAIT)).folded
            assert message is not None
            states[message.seq] = message.raw
    assert list(states.values()) == [message.raw for message in page.messages]
    fold = Fold()
    for message in (await bob.history_page(address, fold=False)).messages:
        fold.take(message)
    assert [message.raw for message in fold.messages] == list(states.values())


@pytest.mark.embedded
def test_the_blocking_client_amends_and_folds(shared_server: BusServer, fresh_room: str) -> None:
    address = f"{fresh_room}:chat"
    with sync.connect(shared_server.url) as bus, bus.subscribe(address, fold=True) as messages:
        bus.publish(address, "helo")
        message = messages.get(WAIT)
        assert message.folded is message
        message.edit("hello")
        edited = messages.get(WAIT)
        assert edited.folded is not None
        assert edited.folded.text == "hello"
        message.react("👍")
        reacted = messages.get(WAIT).folded
        assert reacted is not None
        assert reacted.reactions == {"👍": [bus.client_id]}
        bus.unreact(message, "👍")
        bus.delete(message)
        assert messages.get(WAIT).amends == message.id
        gone = messages.get(WAIT).folded
        assert gone is not None
        assert gone.deleted is not None


@pytest.mark.embedded
async def test_wrong_amendments_are_refused_before_they_are_sent(client: Connect) -> None:
    bus = await client()
    for wrong in (bus.edit("arq_x", address="a:b"), bus.delete("arq_x"), bus.react("", "x", address="a:b")):
        with pytest.raises(ValueError, match=r"text|address|id"):
            await wrong
    with pytest.raises(TypeError):
        await bus.delete(5, address="a:b")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        await Message.of({"id": "x"}).edit("y")
    assert arqonbus.Fold is Fold


@pytest.mark.embedded
@pytest.mark.parametrize("presence", [False, True])
async def test_a_folding_subscription_tells_of_an_erasure_without_the_content_and_keeps_its_place(
    client: Connect, fresh_room: str, admin_token: str, presence: bool
) -> None:
    address = f"{fresh_room}:talk"
    admin, reader = await client(token=admin_token), await client()
    async with reader.subscribe(address, fold=True, presence=presence) as messages:
        first = await admin.publish(address, "PERSONAL")
        await admin.publish(address, "harmless")
        assert [(await messages.get(WAIT)).text for _ in range(2)] == ["PERSONAL", "harmless"]
        place = messages.position
        assert first.seq is not None
        await admin.erase_message(address, seq=first.seq)
        told = await messages.get(WAIT)
        assert (told.type, told.erased, told.seq, told.text) == ("system", True, None, "")
        assert told.folded is not None
        assert (told.folded.id, told.folded.seq, told.folded.erased) == (first.id, first.seq, True)
        assert "PERSONAL" not in json.dumps(told.folded.raw)
        assert messages.position == place
        await admin.publish(address, "and on")
        assert (await messages.get(WAIT)).text == "and on"


@pytest.mark.parametrize(("messages", "each"), [(20, 15), pytest.param(100, 100, marks=pytest.mark.chaos)])
async def test_amendments_by_ten_clients_at_two_processes_fold_to_one_state_for_all_readers(
    start_server: StartServer, client: Connect, fresh_room: str, messages: int, each: int
) -> None:
    address, dice = f"{fresh_room}:chat", random.Random(15)
    servers = [start_server(), start_server()]
    writers = [await client(servers[n % 2]) for n in range(10)]
    readers = [await client(server) for server in servers]
    live = [reader.subscribe(address, fold=True, buffer=100) for reader in readers]
    for subscription in live:
        await subscription.open()
    sent = [(await writers[n % 10].publish(address, f"message {n}"), n % 10) for n in range(messages)]

    async def amend(number: int, seed: int) -> int:
        """Amend so many times, and return how many amendments were accepted."""
        chosen, accepted, bus = random.Random(seed), 0, writers[number]
        for n in range(each):
            receipt, owner = chosen.choice(sent)
            with contextlib.suppress(errors.MessageNotFound):  # It is deleted.
                if owner == number and chosen.random() < 0.1:
                    await bus.delete(receipt)
                elif owner == number:
                    await bus.edit(receipt, f"edit {number}.{n}")
                elif chosen.random() < 0.7:
                    await bus.react(receipt, chosen.choice("👍👎🎉"))
                else:
                    await bus.unreact(receipt, chosen.choice("👍👎🎉"))
                accepted += 1
        return accepted

    async def read(subscription: arqonbus.Subscription, number: int) -> dict[int, Any]:
        """The last state of each message, after so many messages."""
        states: dict[int, Any] = {}
        for _ in range(number):
            message = (await subscription.get(60)).folded
            assert message is not None
            assert message.seq is not None
            states[message.seq] = message.raw
        return states

    accepted = sum(await asyncio.gather(*(amend(number, dice.randrange(1 << 30)) for number in range(10))))
    total = messages + accepted
    seen = [await read(subscription, total) for subscription in live]
    late = await read(readers[1].subscribe(address, since=0, fold=True), total)
    fold = Fold()
    async for message in readers[0].history(address, fold=False):
        fold.take(message)
    pages = [message async for message in readers[0].history(address)]
    # What came before a deletion changes nothing about it, so all have the same.
    assert seen[0] == seen[1] == late == {message.seq: message.raw for message in fold.messages}
    assert {message.seq: message.raw for message in pages} == late
    assert any(message.deleted for message in pages)
    assert any(message.edited and message.reactions for message in pages)
