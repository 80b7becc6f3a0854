"""The asyncio client against a real server: messages, commands, errors."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from datetime import UTC, datetime, timedelta

import pytest

import arqonbus
from arqonbus import errors
from bus.services.seed import SCIENCE
from tests.clients_python.conftest import Connect
from tests.harness.server import BusServer

WAIT = 10.0


@pytest.fixture
def address() -> str:
    """A channel that no other test uses."""
    return f"room-{secrets.token_hex(6)}:talk"


async def test_what_one_publishes_another_reads(client: Connect, address: str) -> None:
    alice, bob = await client(client_type="ai-agent", screen_name="Alice"), await client()
    async with bob.subscribe(address) as messages:
        receipt = await alice.publish(address, "hello", payload={"n": 1}, metadata={"k": "v"})
        message = await messages.get(WAIT)
    assert (message.text, message.payload, message.metadata) == ("hello", {"n": 1}, {"k": "v"})
    assert message.sender == alice.client_id
    assert (message.id, message.seq, message.address) == (receipt.id, receipt.seq, address)
    assert not receipt.duplicate


async def test_the_registration_is_what_was_asked_for(client: Connect, address: str) -> None:
    name = f"me-{secrets.token_hex(4)}"
    bus = await client(client_id=name, client_type="dashboard", room=address, personality={"mood": "calm"})
    assert (bus.client_id, bus.address, bus.role) == (name, address, "anonymous")
    info = await bus.channel_info(address)
    assert [(member["client_id"], member["client_type"]) for member in info["participants"]] == [(name, "dashboard")]


async def test_own_messages_come_back_only_with_echo(client: Connect, address: str) -> None:
    bus, other = await client(), await client()
    async with bus.subscribe(address) as quiet:
        await bus.publish(address, "mine")
        await other.publish(address, "theirs")
        assert (await quiet.get(WAIT)).text == "theirs"
        async with bus.subscribe(address, echo=True, since=0) as loud:
            assert [(await loud.get(WAIT)).text for _ in range(2)] == ["mine", "theirs"]
            await bus.publish(address, "again")
            assert (await loud.get(WAIT)).text == "again"
            await other.publish(address, "end")
            # The other iterator of this very channel still leaves them out.
            assert (await quiet.get(WAIT)).text == "end"


async def test_whole_room_messages_reach_the_channels_iterator_once_unless_not_wanted(
    client: Connect, address: str
) -> None:
    room = address.partition(":")[0]
    sender, reader = await client(), await client()
    async with reader.subscribe(address) as all_of_it, reader.subscribe(address, broadcasts=False) as channel_only:
        assert (await sender.publish(room, "to all")).channel == "*"
        await sender.publish(address, "to the channel")
        assert [(await all_of_it.get(WAIT)).text for _ in range(2)] == ["to all", "to the channel"]
        assert (await channel_only.get(WAIT)).text == "to the channel"


async def test_two_iterators_of_one_channel_have_their_own_place(client: Connect, address: str) -> None:
    sender, reader = await client(), await client()
    for n in range(5):
        await sender.publish(address, {"n": n})
    async with reader.subscribe(address) as live:
        async with reader.subscribe(address, since=2) as late:
            await sender.publish(address, {"n": 5})
            assert [(await late.get(WAIT)).payload["n"] for _ in range(4)] == [2, 3, 4, 5]
        assert (await live.get(WAIT)).payload["n"] == 5


async def test_a_position_goes_on_in_another_connection(client: Connect, address: str) -> None:
    sender = await client()
    for n in range(4):
        await sender.publish(address, {"n": n})
    first = await client()
    async with first.subscribe(address, since=0) as messages:
        assert messages.position is not None
        assert messages.position.seq == 0
        assert [(await messages.get(WAIT)).payload["n"] for _ in range(2)] == [0, 1]
        position = messages.position
    assert position is not None
    assert position.seq == 2
    second = await client()
    async with second.subscribe(address, since=position) as messages:
        assert [(await messages.get(WAIT)).payload["n"] for _ in range(2)] == [2, 3]


async def test_since_takes_times(client: Connect, address: str) -> None:
    bus, reader = await client(), await client()
    await bus.publish(address, "one")
    await bus.publish(address, "two")
    async with reader.subscribe(address, since=timedelta(minutes=1)) as messages:
        assert (await messages.get(WAIT)).text == "one"
    async with reader.subscribe(address, since=datetime.now(UTC) + timedelta(minutes=1)) as messages:
        await bus.publish(address, "three")
        assert (await messages.get(WAIT)).text == "three"
    with pytest.raises(ValueError, match="not an ISO time"):
        await reader.subscribe(address, since="yesterday").open()


async def test_private_messages_wait_in_the_inbox(client: Connect) -> None:
    name = f"bob-{secrets.token_hex(4)}"
    alice, bob = await client(), await client(client_id=name)
    await alice.private(name, "psst")
    async with bob.inbox(since=0) as inbox:
        assert (await inbox.get(WAIT)).text == "psst"
        await alice.publish(f"pm:{name}", "again")
        message = await inbox.get(WAIT)
        assert (message.text, message.private, message.sender) == ("again", True, alice.client_id)


async def test_unknown_targets_are_named_and_the_others_served(client: Connect) -> None:
    name = f"bob-{secrets.token_hex(4)}"
    alice, bob = await client(), await client(client_id=name)
    async with bob.inbox() as inbox:
        with pytest.raises(errors.TargetNotFound) as caught:
            await alice.private([name, "nobody-at-all"], "hi")
        assert caught.value.details == [{"client_id": "nobody-at-all"}]
        assert (await inbox.get(WAIT)).text == "hi"


async def test_presence_is_told_on_request(client: Connect, address: str) -> None:
    reader = await client()
    async with reader.subscribe(address, presence=True) as messages:
        guest = await client(client_id=f"guest-{secrets.token_hex(4)}", room=address)
        joined = await messages.get(WAIT)
        assert (joined.event, joined.payload["client_id"]) == ("client_joined", guest.client_id)
        await guest.close()
        assert (await messages.get(WAIT)).event == "client_left"


async def test_a_repeated_id_is_published_once(client: Connect, address: str) -> None:
    bus = await client()
    first = await bus.publish(address, "once", id="arq_same")
    second = await bus.publish(address, "once", id="arq_same")
    assert (second.seq, second.duplicate) == (first.seq, True)
    assert len((await bus.history_page(address)).messages) == 1


async def test_types_of_messages_are_free_but_for_the_servers_own(client: Connect, address: str) -> None:
    bus, reader = await client(), await client()
    async with reader.subscribe(address) as messages:
        for kind in ("message", "mood"):
            await bus.publish(address, kind, type=kind)
        assert [(await messages.get(WAIT)).type for _ in range(2)] == ["event", "mood"]
    for kind in ("ack", "error", "command_response"):
        with pytest.raises(errors.ValidationFailed):
            await bus.publish(address, "pretending", type=kind)


async def test_without_ack_it_arrives_too(client: Connect, address: str) -> None:
    bus, reader = await client(), await client()
    async with reader.subscribe(address) as messages:
        assert (await bus.publish(address, "quick", ack=False)).seq is None
        assert (await messages.get(WAIT)).text == "quick"


async def test_history_iterates_over_all_pages(client: Connect, address: str) -> None:
    bus = await client()
    await asyncio.gather(*(bus.publish(address, {"n": n}) for n in range(1203)))
    seen = [message.seq async for message in bus.history(address)]
    assert seen == list(range(1, 1204))
    assert [message.seq async for message in bus.history(address, since=1200)] == [1201, 1202, 1203]
    page = await bus.history_page(address, limit=3, before=10)
    assert ([message.seq for message in page.messages], page.next) == ([7, 8, 9], 7)


async def test_history_of_a_room_has_every_channel(client: Connect, address: str) -> None:
    room = address.partition(":")[0]
    bus = await client()
    for n in range(3):
        await bus.publish(f"{room}:a", {"n": n})
        await bus.publish(f"{room}:b", {"n": n})
    await bus.publish(room, "all")
    seen = [message.address async for message in bus.history(room)]
    assert sorted(seen) == [f"{room}:*"] + [f"{room}:a"] * 3 + [f"{room}:b"] * 3
    with pytest.raises(ValueError, match="no common seq"):
        await anext(bus.history(room, since=3))


async def test_history_has_every_message_however_short_the_servers_pages_are(client: Connect, address: str) -> None:
    room = address.partition(":")[0]
    bus = await client()
    big = "x" * 100_000
    texts = [f"{n}{big}" for n in range(8)]
    for n, text in enumerate(texts):
        await bus.publish(f"{room}:{'ab'[n % 2]}", text)
    assert [m.text for m in (await bus.history_page(room)).messages] != texts
    assert [m.text async for m in bus.history(room)] == texts
    assert [m.text async for m in bus.history(f"{room}:a")] == texts[::2]
    backwards: list[str] = []
    page = await bus.history_page(room)
    while True:
        backwards = [message.text for message in page.messages] + backwards
        if page.next is None:
            break
        page = await bus.history_page(room, before=page.next)
    assert backwards == texts


async def test_history_of_one_sender_until_a_time(client: Connect, address: str) -> None:
    alice, bob = await client(), await client()
    await alice.publish(address, "a")
    await bob.publish(address, "b")
    assert [m.text async for m in alice.history(address, sender=bob.client_id)] == ["b"]
    assert [m.text async for m in alice.history(address, until=timedelta(hours=1))] == []


async def test_every_command(client: Connect, address: str, admin_token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room = address.partition(":")[0]
    admin, guest = await client(token=admin_token), await client()
    assert admin.role == "admin"
    pong = await guest.ping({"x": 1})
    assert (pong["pong"], pong["echo"]) == (True, {"x": 1})
    assert {row["command"] for row in await guest.help()} >= {"status", "history", "ping"}
    assert [row["command"] for row in await guest.help("ping")] == ["ping"]
    made = await admin.create_channel(address, description="for talking", metadata={"k": 1}, retention={"count": 10})
    assert (made["room"], made["channel"]) == tuple(address.split(":"))
    with pytest.raises(errors.ChannelExists):
        await admin.create_channel(address)
    assert (await guest.join(address))["participants"] == 1
    rows = await guest.list_channels(room)
    assert [(row["channel"], row["participants"], row["description"]) for row in rows] == [("talk", 1, "for talking")]
    command = guest._command
    with monkeypatch.context() as small_pages:
        small_pages.setattr(guest, "_command", lambda name, parameters: command(name, {**parameters, "limit": 2}))
        found = [row["channel"] for row in await guest.list_channels("science")]
    # Others may have made more of them.
    assert len(set(found)) == len(found)
    assert set(found) >= set(SCIENCE.channels)
    assert any(row["room"] == "science" for row in await guest.list_channels())
    assert [m["client_id"] for m in (await guest.channel_info(address))["participants"]] == [guest.client_id]
    status = await guest.status()
    assert status["server"]["protocol"] == "1.0"
    assert guest.client_id in [row["client_id"] async for row in guest.clients()]
    with pytest.raises(errors.ChannelNotEmpty):
        await admin.delete_channel(address)
    assert address not in await guest.leave(address)
    with pytest.raises(errors.NotAMember):
        await guest.leave(address)
    await admin.delete_channel(address)
    with pytest.raises(errors.ChannelNotFound):
        await guest.channel_info(address)


async def test_what_only_admins_may_is_forbidden_to_others(client: Connect, address: str) -> None:
    bus = await client()
    with pytest.raises(errors.Forbidden):
        await bus.create_channel(address)
    with pytest.raises(errors.Forbidden):
        await bus.publish(address, "x", type="system")


async def test_bad_requests_say_what_is_wrong(client: Connect, address: str) -> None:
    bus = await client()
    with pytest.raises(errors.InvalidName):
        await bus.publish("no spaces:here", "x")
    with pytest.raises(errors.ValidationFailed):
        await bus.history_page(address, limit=10_000)
    with pytest.raises(errors.FrameTooLarge):
        await bus.publish(address, "x" * 300_000)
    with pytest.raises(TypeError):
        await bus.publish(address, {"x": object()})
    assert (await bus.ping())["pong"]


async def test_a_subscription_that_is_not_allowed_says_so(client: Connect) -> None:
    bus = await client()
    with pytest.raises(errors.InvalidName):
        await bus.subscribe("no spaces:here").open()


async def test_a_channel_that_was_deleted_is_not_called_withdrawn(
    client: Connect, shared_server: BusServer, address: str
) -> None:
    bus, other = await client(), await client()
    messages = await bus.subscribe(address)
    room, _, channel = address.partition(":")
    code = f"from bus.models import Channel; Channel.objects.filter(room__name={room!r}, name={channel!r}).delete()"
    await asyncio.to_thread(shared_server.manage, "shell", "--verbosity", "0", "--command", code)
    # Nobody rang: the next message for it finds out.
    with contextlib.suppress(errors.ChannelNotFound):
        await other.publish(address, "into nothing")
    with pytest.raises(errors.ChannelNotFound, match="was deleted"):
        await anext(messages)


async def test_a_channel_is_left_when_its_last_iterator_ends(client: Connect, address: str) -> None:
    bus, watcher = await client(), await client()
    first, second = bus.subscribe(address), bus.subscribe(address)
    async with first:
        async with second:
            assert (await watcher.channel_info(address))["participant_count"] == 1
        assert (await watcher.channel_info(address))["participant_count"] == 1
    assert (await watcher.channel_info(address))["participant_count"] == 0
    with pytest.raises(StopAsyncIteration):
        await anext(first)


async def test_a_forgotten_iterator_leaves_too(client: Connect, address: str) -> None:
    bus, watcher = await client(), await client()
    async with watcher.subscribe(address, presence=True) as notices:

        async def read_one() -> str:
            async for message in bus.subscribe(address):
                return message.text
            return ""

        task = asyncio.create_task(read_one())
        assert (await notices.get(WAIT)).event == "client_joined"
        await watcher.publish(address, "only this")
        assert await asyncio.wait_for(task, WAIT) == "only this"
        del task
        left = await notices.get(WAIT)
        assert (left.event, left.payload["client_id"]) == ("client_left", bus.client_id)


async def test_closing_ends_iterators_and_refuses_further_use(client: Connect, address: str) -> None:
    bus = await client()
    subscription = await bus.subscribe(address).open()
    reading = asyncio.ensure_future(subscription.__anext__())
    await bus.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(reading, WAIT)
    with pytest.raises(arqonbus.BusClosed):
        await bus.publish(address, "too late")
    await bus.close()


async def test_a_taken_id_is_refused(client: Connect) -> None:
    name = f"only-one-{secrets.token_hex(4)}"
    await client(client_id=name)
    with pytest.raises(arqonbus.ClosedByServer) as caught:
        await client(client_id=name)
    assert caught.value.close_code == 4409
    assert isinstance(caught.value.error, errors.ClientIdInUse)


async def test_a_wrong_token_is_refused(client: Connect) -> None:
    with pytest.raises(arqonbus.ClosedByServer) as caught:
        await client(token="not-a-token")
    assert caught.value.close_code == 4401
    assert isinstance(caught.value.error, errors.Unauthenticated)


async def test_the_same_identity_takes_over_and_the_older_one_stays_away(
    shared_server: BusServer, client: Connect
) -> None:
    token = shared_server.create_token(f"robot-{secrets.token_hex(4)}")
    name = f"robot-{secrets.token_hex(4)}"
    older = await client(client_id=name, token=token)
    reading = asyncio.ensure_future(older.subscribe("science:explore").__anext__())
    newer = await client(client_id=name, token=token)
    with pytest.raises(arqonbus.ClosedByServer) as caught:
        await asyncio.wait_for(reading, WAIT)
    assert caught.value.close_code == 4410
    assert older.state is arqonbus.State.CLOSED
    assert (await newer.ping())["pong"]


async def test_ephemeral_messages_pass_by(client: Connect, address: str, admin_token: str) -> None:
    admin, reader = await client(token=admin_token), await client()
    await admin.create_channel(address, ephemeral=True)
    async with reader.subscribe(address, buffer=2) as messages:
        for n in range(4):
            receipt = await admin.publish(address, {"n": n})
            assert receipt.seq is None
        await reader.ping()
        assert [(await messages.get(WAIT)).payload["n"] for _ in range(2)] == [0, 1]
        assert messages.dropped == 2


async def test_what_is_no_bus_is_said_to_be_none(shared_server: BusServer) -> None:
    with pytest.raises(arqonbus.ConnectionFailed, match=r"HTTP \d+|WebSocket"):
        await arqonbus.connect(f"{shared_server.url}no-such-path/")
    with pytest.raises(arqonbus.ConnectionFailed, match=r"not the URL .* Did you mean ws://localhost:8765\?"):
        await arqonbus.connect("localhost:8765")


async def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(arqonbus.ConnectionFailed, match="cannot be reached"):
        await arqonbus.connect("ws://127.0.0.1:1/")


async def test_usual_slips_are_told_what_was_meant(shared_server: BusServer, address: str) -> None:
    with pytest.raises(AttributeError, match=r"bus = await connect"):
        await arqonbus.connect(shared_server.url).publish(address, "not yet")
    with pytest.raises(TypeError, match=r"async with.*arqonbus\.sync"), arqonbus.connect(shared_server.url):
        pass
    async with arqonbus.connect(shared_server.url) as bus:
        for wrong in ("", "a:b:c", ":x"):
            with pytest.raises(ValueError, match="looks like room:channel"):
                await bus.publish(wrong, "where to?")
        async with await bus.subscribe(address, echo=True) as messages:
            await bus.publish(address, "awaited")
            assert (await messages.get(WAIT)).text == "awaited"

        def elsewhere() -> None:
            asyncio.run(bus.ping())

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
    # As trio does: a coroutine without asyncio's loop around it.
    alone = arqonbus.connect(shared_server.url).__aenter__()
    with pytest.raises(RuntimeError, match=r"asyncio\.run.*trio.*arqonbus\.sync"):
        await asyncio.to_thread(alone.send, None)
