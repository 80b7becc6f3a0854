"""Ask and answer over sockets: who gets what, what is refused, and what happens at the deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.client import Dialect, WireClient, WireError, new_id
from tests.harness.server import BusServer

Name = Callable[[str], str]


async def refused(sent: Any) -> dict[str, Any]:
    """The error of a frame that is refused."""
    with pytest.raises(WireError) as caught:
        await sent
    error: dict[str, Any] = caught.value.frame["error"]
    return error


async def ask(client: WireClient, to: str, **ask: Any) -> str:
    """Ask somebody; the uid of the question."""
    sent = await client.publish(ack=True, type="private", to=to, message_id=new_id(), payload={"a": 1}, ask=ask)
    return f"arq_{sent['request_id']}" if not sent["request_id"].startswith("arq_") else sent["request_id"]


async def test_an_answer_comes_back_with_the_correlation(
    shared_server: BusServer, wire: Connect, name: Name, dialect: Dialect
) -> None:
    adder = await wire(shared_server, client_id=name("adder"), dialect=dialect)
    asker = await wire(shared_server, client_id=name("asker"), dialect=dialect)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = await asker.publish(
        type="private", to=name("adder"), payload={"a": 1, "b": 2}, ask={"timeout": 20}, traceparent=trace
    )
    question = await adder.expect(type="private")
    assert question["ask"] == {"timeout": 20, "durable": False}
    assert (question["reply_to"], question["correlation"]) == (name("asker"), sent["id"])
    assert question["traceparent"] == trace
    assert list(question).index("ask") < list(question).index("payload")

    answered = await adder.publish(ack=True, type="reply", to_message=question["id"], payload={"sum": 3})
    reply = await asker.expect(type="reply")
    assert (reply["to_message"], reply["correlation"], reply["from"]) == (question["id"], sent["id"], name("adder"))
    assert (reply["payload"]["sum"], reply["seq"], reply["traceparent"]) == (3, answered["seq"], trace)
    assert (reply["room"], reply["channel"], "error" in reply) == ("pm", name("asker"), False)


async def test_an_error_may_be_the_answer_and_one_may_ask_oneself(
    shared_server: BusServer, wire: Connect, name: Name
) -> None:
    client = await wire(shared_server, client_id=name("self"))
    of = await ask(client, name("self"), correlation="mine")
    question = await client.expect(type="private")
    assert (question["id"], question["correlation"]) == (of, "mine")
    await client.publish(ack=True, type="reply", to_message=of, error="I do not know.")
    reply = await client.expect(type="reply")
    assert (reply["error"], reply["correlation"], reply["payload"]) == ("I do not know.", "mine", {})


@pytest.mark.embedded
async def test_without_a_responder_nothing_is_kept(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    asker = await wire(shared_server, client_id=name("asker"), room=f"{fresh_room}:a")
    gone = await wire(shared_server, client_id=name("gone"), room=f"{fresh_room}:a")
    await gone.close()
    await asker.expect(event="client_left")
    for to in (name("gone"), name("never")):
        error = await refused(asker.publish(ack=True, type="private", to=to, payload={}, ask={}))
        assert (error["code"], error["number"], error["details"]) == ("NO_RESPONDER", 404, [{"to": to}])
    error = await refused(asker.publish(ack=True, type="private", to=name("never"), payload={}, ask={"durable": True}))
    assert error["code"] == "NO_RESPONDER"
    async with await gone.reconnect() as back:
        await asker.publish(ack=True, type="private", to=name("gone"), message="after")
        assert (await back.expect(type="private"))["message"] == "after"


@pytest.mark.embedded
async def test_a_question_goes_to_one_client(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    asker = await wire(shared_server, client_id=name("asker"), room=f"{fresh_room}:a")
    for place in (
        {"room": fresh_room, "channel": "a"}, {"room": fresh_room}, {"type": "private", "to": [name("asker"), name("x")]},
    ):  # fmt: skip
        error = await refused(asker.publish(ack=True, payload={}, ask={"timeout": 1}, **place))
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "ask")
    error = await refused(asker.publish(ack=True, type="private", to=name("asker"), payload={}, ask={"timeout": 86401}))
    assert error["details"][0]["field"] == "ask"
    # Not an object: a key of the sender's own, as it always was.
    await asker.publish(room=fresh_room, channel="a", payload={}, ask=True, echo=True)
    assert (await asker.expect(type="event"))["metadata"] == {"ask": True}


async def test_at_the_deadline_the_asker_hears_who_did_not_answer(
    shared_server: BusServer, wire: Connect, name: Name
) -> None:
    silent = await wire(shared_server, client_id=name("silent"))
    asker = await wire(shared_server, client_id=name("asker"))
    sent = await asker.publish(type="private", to=name("silent"), payload={}, ask={"timeout": 0.2, "correlation": "c"})
    error = await asker.expect(type="error")
    uid = (await silent.expect(type="private"))["id"]
    assert (error["request_id"], error["error"]["code"]) == (sent["id"], "ASK_TIMEOUT")
    assert error["error"]["details"] == [{"to": name("silent"), "correlation": "c", "message": uid}]
    assert error["error"]["message"] == f"{name('silent')} did not answer within 0.2 s."
    late = await refused(silent.publish(ack=True, type="reply", to_message=uid, payload={}))
    assert (late["code"], late["details"]) == ("QUESTION_ENDED", [{"message": uid, "state": "timeout"}])
    # Who repeats the question learns the same once more.
    again = await refused(
        asker.publish(
            ack=True, message_id=sent["id"], type="private", to=name("silent"), payload={}, ask={"correlation": "c"}
        )
    )
    assert again == error["error"]


async def test_one_reply_counts_and_may_be_repeated(shared_server: BusServer, wire: Connect, name: Name) -> None:
    adder = await wire(shared_server, client_id=name("adder"))
    asker = await wire(shared_server, client_id=name("asker"))
    first, second = await ask(asker, name("adder")), await ask(asker, name("adder"))
    sent = await adder.publish(ack=True, message_id="r1", type="reply", to_message=first, payload={"n": 1})
    repeated = await adder.publish(ack=True, message_id="r1", type="reply", to_message=first, payload={"n": 1})
    assert (repeated["seq"], repeated["duplicate"]) == (sent["seq"], True)
    error = await refused(adder.publish(ack=True, type="reply", to_message=first, payload={"n": 2}))
    assert (error["code"], error["details"][0]["state"]) == ("QUESTION_ENDED", "answered")
    # The same id for another question would lose its answer as a repeat.
    error = await refused(adder.publish(ack=True, message_id="r1", type="reply", to_message=second, payload={}))
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "id")
    await adder.publish(ack=True, message_id="r2", type="reply", to_message=second, payload={"n": 2})
    assert [reply["payload"]["n"] for reply in await asker.expect_all(2, type="reply")] == [1, 2]


@pytest.mark.embedded
async def test_nobody_answers_what_others_were_asked(shared_server: BusServer, wire: Connect, name: Name) -> None:
    adder = await wire(shared_server, client_id=name("adder"))
    asker = await wire(shared_server, client_id=name("asker"))
    stranger = await wire(shared_server, client_id=name("stranger"))
    of = await ask(asker, name("adder"))
    for client, target in ((stranger, of), (asker, of), (adder, "arq_nothing")):
        error = await refused(client.publish(ack=True, type="reply", to_message=target, payload={"lie": 1}))
        assert (error["code"], error["details"]) == ("QUESTION_NOT_FOUND", [{"message": target}])
    await adder.publish(ack=True, type="reply", to_message=of, payload={"true": 1})
    assert (await asker.expect(type="reply"))["payload"] == {"true": 1}
    # A forged reply is no reply: without `to_message` at its top it is a message of that type.
    await stranger.publish(ack=True, type="reply", room="pm", channel=name("asker"), payload={"to_message": of})
    assert "to_message" not in await asker.expect(type="reply")


@pytest.mark.embedded
async def test_two_askers_may_choose_the_same_id(shared_server: BusServer, wire: Connect, name: Name) -> None:
    adder = await wire(shared_server, client_id=name("adder"))
    ann, bob = [await wire(shared_server, client_id=name(who)) for who in ("ann", "bob")]
    for asker in (ann, bob):
        await asker.publish(ack=True, message_id="q1", type="private", to=name("adder"), payload={}, ask={})
    error = await refused(adder.publish(ack=True, type="reply", to_message="arq_q1", payload={}))
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "reply_to")
    for question in await adder.expect_all(2, type="private"):
        await adder.publish(
            ack=True, type="reply", to_message="arq_q1", reply_to=question["reply_to"], message=question["reply_to"]
        )
    for asker in (ann, bob):
        assert (await asker.expect(type="reply"))["message"] == asker.client_id
    # One asker gives each of its questions an id of its own.
    error = await refused(
        ann.publish(ack=True, message_id="q1", type="private", to=name("bob"), payload={}, ask={"durable": True})
    )
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "id")


@pytest.mark.embedded
async def test_an_asker_who_was_away_finds_the_reply(shared_server: BusServer, wire: Connect, name: Name) -> None:
    adder = await wire(shared_server, client_id=name("adder"))
    asker = await wire(shared_server, client_id=name("asker"))
    of = await ask(asker, name("adder"), timeout=60)
    await asker.close()
    await adder.publish(ack=True, type="reply", to_message=of, payload={"n": 1})
    async with await asker.reconnect() as back:
        assert (await back.expect(type="reply"))["to_message"] == of


@pytest.mark.embedded
async def test_who_takes_an_id_without_proof_neither_answers_nor_hears_for_it(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    asker = await wire(shared_server, client_id=name("asker"), room=f"{fresh_room}:a")
    adder = await wire(shared_server, client_id=name("adder"), room=f"{fresh_room}:a")
    to_adder = await ask(asker, name("adder"), timeout=60)
    of_adder = await ask(adder, name("asker"), timeout=60)
    await adder.close()
    await asker.expect(event="client_left")
    thief = await wire(shared_server, client_id=name("adder"))
    error = await refused(thief.publish(ack=True, type="reply", to_message=to_adder, payload={}))
    assert error["code"] == "QUESTION_NOT_FOUND"
    error = await refused(asker.publish(ack=True, type="reply", to_message=of_adder, payload={"secret": 1}))
    assert (error["code"], error["details"][0]["state"]) == ("QUESTION_ENDED", "timeout")
    await thief.expect_nothing(type="reply")


async def test_a_question_in_a_deleted_channel_ends_at_once(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str, admin_token: str
) -> None:
    admin = await wire(shared_server, token=admin_token)
    asker = await wire(shared_server, client_id=name("asker"))
    await admin.request("create_channel", room=fresh_room, channel="jobs", work={})
    asked = {"timeout": 60, "correlation": "c"}
    ack = await asker.publish(ack=True, message_id=new_id(), room=fresh_room, channel="jobs", payload={}, ask=asked)
    await admin.request("delete_channel", room=fresh_room, channel="jobs")
    error = await asker.expect(type="error")
    assert (error["request_id"], error["error"]["code"]) == (ack["request_id"], "CHANNEL_NOT_FOUND")
    (detail,) = error["error"]["details"]
    assert (detail["to"], detail["correlation"]) == (f"{fresh_room}:jobs", "c")


@pytest.mark.embedded
async def test_who_never_had_a_mark_gets_what_it_was_asked_while_it_was_away(
    shared_server: BusServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    asker = await wire(shared_server, client_id=name("asker"), room=f"{fresh_room}:a")
    adder = await wire(shared_server, client_id=name("adder"), room=f"{fresh_room}:a")
    await asker.publish("a letter", ack=True, type="private", to=name("adder"))
    await adder.close()
    await asker.expect(event="client_left")
    of = await ask(asker, name("adder"), durable=True, timeout=60)
    resume = {"token": adder.registered["resume_token"]}
    async with await wire(shared_server, client_id=name("adder"), room=f"{fresh_room}:a", resume=resume) as back:
        assert (await back.request("mark", room="pm", channel=name("adder"), seq=2, begin=True))["seq"] == 1
        assert (await back.request("mark", room="pm", channel=name("adder"), seq=2, begin=True))["seq"] == 1, (
            "it has begun already"
        )
    await asker.expect(event="client_left")
    async with await wire(
        shared_server,
        client_id=name("adder"),
        room=f"{fresh_room}:a",
        resume={"token": back.registered["resume_token"]},
        since="mark",
    ) as again:
        question = await again.expect(type="private")
        assert (question["id"], question["seq"]) == (of, 2)
        await again.publish(ack=True, type="reply", to_message=of, payload={"sum": 3})
    assert (await asker.expect(type="reply"))["payload"] == {"sum": 3}
