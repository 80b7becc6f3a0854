"""The matrix of roles and actions. Each cell is asserted over a real socket."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

import pytest

from bus.commands.base import registry
from tests.conftest import Connect
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until
from tests.security.conftest import Console
from tests.security.test_attacks import bearer, rest

ROLES = ("anonymous", "member", "publisher", "admin")
KINDS = ("public", "private", "hardcoded", "system")

OK, FORBIDDEN = "success", "FORBIDDEN"
NO_CHANNEL, NO_ROOM, PROTECTED, NOT_IN = "CHANNEL_NOT_FOUND", "ROOM_NOT_FOUND", "CHANNEL_PROTECTED", "NOT_A_MEMBER"
NO_STREAM, NO_CLAIM, NO_MESSAGE = "STREAM_NOT_FOUND", "CLAIM_NOT_FOUND", "MESSAGE_NOT_FOUND"
NO_DECISION, PENDING = "DECISION_NOT_FOUND", "VALIDATION_ERROR"

# For each action, the answers of anonymous, member, publisher and admin. The member's grants on the private room are to join,
# to read history and to see who is there, the publisher's one more; neither has any on the rooms about the bus itself (system).
EVERYBODY = (OK, OK, OK, OK)
HIDDEN_TO_STRANGERS = {"private": (NO_CHANNEL, OK, OK, OK), "system": (NO_CHANNEL, NO_CHANNEL, NO_CHANNEL, OK)}
MATRIX: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "publish": {
        "public": EVERYBODY,
        "private": (NO_CHANNEL, FORBIDDEN, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_CHANNEL, NO_CHANNEL, NO_CHANNEL, OK),
    },
    "join_channel": {"public": EVERYBODY, "hardcoded": EVERYBODY, **HIDDEN_TO_STRANGERS},
    "leave_channel": {
        "public": EVERYBODY,
        "private": (NOT_IN, OK, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NOT_IN, NOT_IN, NOT_IN, OK),
    },
    "channel_info": {"public": EVERYBODY, "hardcoded": EVERYBODY, **HIDDEN_TO_STRANGERS},
    "history": {
        "public": EVERYBODY,
        "private": (NO_ROOM, OK, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_ROOM, NO_ROOM, NO_ROOM, OK),
    },
    "list_channels": {
        "public": EVERYBODY,
        "private": (NO_ROOM, OK, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_ROOM, NO_ROOM, NO_ROOM, OK),
    },
    "create_channel": {
        "public": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
        "private": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
        "hardcoded": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
        "system": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
    },
    "delete_channel": {
        "public": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
        "private": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
        "hardcoded": (FORBIDDEN, FORBIDDEN, FORBIDDEN, PROTECTED),
        "system": (FORBIDDEN, FORBIDDEN, FORBIDDEN, PROTECTED),
    },
    "erase_message": {
        "public": (FORBIDDEN, FORBIDDEN, FORBIDDEN, NO_MESSAGE),
        "private": (FORBIDDEN, FORBIDDEN, FORBIDDEN, NO_MESSAGE),
        "hardcoded": (FORBIDDEN, FORBIDDEN, FORBIDDEN, NO_MESSAGE),
        "system": (FORBIDDEN, FORBIDDEN, FORBIDDEN, NO_MESSAGE),
    },
    # A room that one may not see is followed like one that is not there yet.
    "follow": {"public": EVERYBODY, "private": EVERYBODY, "hardcoded": EVERYBODY, "system": EVERYBODY},
    "unfollow": {"public": EVERYBODY, "private": EVERYBODY, "hardcoded": EVERYBODY, "system": EVERYBODY},
    # What one may read, one may mark.
    "mark": {
        "public": EVERYBODY,
        "private": (NO_CHANNEL, OK, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_CHANNEL, NO_CHANNEL, NO_CHANNEL, OK),
    },
    # Of a message that an admin streams there. Nobody else of the matrix has the admin's identity.
    "stop_stream": {
        "public": EVERYBODY,
        "private": (NO_STREAM, FORBIDDEN, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_STREAM, NO_STREAM, NO_STREAM, OK),
    },
    "adopt_stream": {
        "public": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
        "private": (NO_STREAM, FORBIDDEN, FORBIDDEN, OK),
        "hardcoded": (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
        "system": (NO_STREAM, NO_STREAM, NO_STREAM, OK),
    },
    # Of a work channel that an admin makes there, with one job.
    "claim": {
        "public": EVERYBODY,
        "private": (NO_CHANNEL, FORBIDDEN, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_CHANNEL, NO_CHANNEL, NO_CHANNEL, OK),
    },
    "work": {"public": EVERYBODY, "hardcoded": EVERYBODY, **HIDDEN_TO_STRANGERS},
    # A refused `manage` has one answer everywhere.
    **{action: dict.fromkeys(KINDS, (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK)) for action in ("retry_job", "discard_job")},
    # Nobody has another one's claim, wherever it is.
    **{action: dict.fromkeys(KINDS, (NO_CLAIM,) * 4) for action in ("renew", "done", "release", "reject")},
    "request_decision": {
        "public": EVERYBODY,
        "private": (NO_CHANNEL, FORBIDDEN, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_CHANNEL, NO_CHANNEL, NO_CHANNEL, OK),
    },
    # Of a decision that an admin asks for there. Nobody decides its own.
    "await_decision": {
        "public": EVERYBODY,
        "private": (NO_DECISION, OK, OK, OK),
        "hardcoded": EVERYBODY,
        "system": (NO_DECISION, NO_DECISION, NO_DECISION, OK),
    },
    **{
        action: {
            "public": (FORBIDDEN, FORBIDDEN, FORBIDDEN, own),
            "private": (NO_DECISION, FORBIDDEN, FORBIDDEN, own),
            "hardcoded": (FORBIDDEN, FORBIDDEN, FORBIDDEN, own),
            "system": (NO_DECISION, NO_DECISION, NO_DECISION, own),
        }
        for action, own in (("decide", FORBIDDEN), ("consume_decision", PENDING), ("cancel_decision", OK))
    },
    "list_decisions": dict.fromkeys(KINDS, EVERYBODY),
    # The same for all, whatever it is asked about; what it shows is asserted below.
    "set_status": dict.fromkeys(KINDS, EVERYBODY),
    "list_clients": dict.fromkeys(KINDS, EVERYBODY),
    "status": dict.fromkeys(KINDS, EVERYBODY),
    "ping": dict.fromkeys(KINDS, EVERYBODY),
    "help": dict.fromkeys(KINDS, EVERYBODY),
}


@dataclass(frozen=True)
class World:
    """The rooms of the matrix, and who its roles are."""

    places: dict[str, tuple[str, str]]
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def world(public_server: BusServer, console: Console) -> World:
    """A public and a private room, the built-in ones, and the four roles."""
    mark = secrets.token_hex(4)
    public, private = f"open-{mark}", f"closed-{mark}"
    console.private_room(private, "hall")
    console.run(
        f"""
        from bus.protocol.names import Address
        services.channels.create_channel(SYSTEM, Address({public!r}, "hall"), door="test")
        """
    )
    tokens = {"anonymous": "", "admin": console.token(f"admin {mark}", admin=True)}
    for role, actions in (
        ("member", ("join", "history", "presence")),
        ("publisher", ("join", "history", "presence", "publish")),
    ):
        console.user(f"{role}-{mark}")
        tokens[role] = console.token(f"{role} {mark}", user=f"{role}-{mark}")
        for action in actions:
            console.grant("user", f"{role}-{mark}", action, f"{private}:*")
    # The grants were made in another process; the server looks for such changes within a second.
    path = f"/api/v1/channels/{private}:hall/messages"
    bearer = {"Authorization": f"Bearer {tokens['publisher']}"}
    wait_until(
        lambda: public_server.request("POST", path, {"message": "heard"}, bearer)[0] == 201,
        "the last grant acts",
        deadline=15,
    )
    places = {
        "public": (public, "hall"),
        "private": (private, "hall"),
        "hardcoded": ("science", "explore"),
        "system": ("integriguard", "telemetry-stream"),
    }
    return World(places, tokens)


async def act(client: WireClient, action: str, room: str, channel: str, admin: WireClient) -> str:
    """Do it; "success", or the code of the error."""
    name = secrets.token_hex(4)
    asked: dict[str, Any] = {"room": room, "channel": channel}
    if action == "publish":
        try:
            await client.publish("hello", room=room, channel=channel, ack=True)
        except WireError as refused:
            return refused.code
        return OK
    if action in ("ping", "help", "status", "set_status", "list_clients"):
        asked = {}
    elif action in ("list_channels", "follow", "unfollow"):
        asked = {"room": room}
        if action == "unfollow":
            await client.request("follow", room=room)
    elif action.endswith("_stream"):
        await admin.publish(room=room, channel=channel, message_id=f"arq_{name}", stream={}, ack=True)
        asked = {"of": f"arq_{name}"}
    elif action == "erase_message":
        asked["id"] = "arq_none"
    elif action == "mark":
        asked["seq"] = 0
    elif action in ("claim", "work", "retry_job", "discard_job"):
        asked["channel"] = f"work-{name}"
        await admin.request("create_channel", work={}, **asked)
        await admin.publish(ack=True, **asked)
        if action == "retry_job":
            (job,) = (await admin.request("claim", **asked))["claims"]
            await admin.request("reject", claim=job["claim"])
        if action.endswith("_job"):
            asked["seq"] = 1
    elif action in ("renew", "done", "release", "reject"):
        await admin.request("create_channel", room=room, channel=f"work-{name}", work={})
        await admin.publish(room=room, channel=f"work-{name}", ack=True)
        (job,) = (await admin.request("claim", room=room, channel=f"work-{name}"))["claims"]
        asked = {"claim": job["claim"] if client.registered["role"] != "admin" else f"{job['claim'][:-1]}_"}
    elif action.endswith("decision") or action == "decide":
        question: dict[str, Any] = {"key": name, "title": "May it?", "action": "act"}
        asked |= question
        if action != "request_decision":
            made = await admin.request("request_decision", room=room, channel=channel, **question)
            asked = {"decision": made["decision"], **({"answer": "approve"} if action == "decide" else {})}
    elif action == "create_channel":
        asked["channel"] = f"new-{name}"
    elif action == "delete_channel" and not room.startswith(("science", "integriguard")):
        asked["channel"] = f"doomed-{name}"
        await admin.request("create_channel", room=room, channel=asked["channel"])
    elif action == "leave_channel":
        await client.command("join_channel", **asked)
    answer = await client.command(action, **asked)
    return OK if answer["status"] == OK else str(answer["error"]["code"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", MATRIX)
async def test_every_role_is_answered_as_the_matrix_says(
    wire: Connect, public_server: BusServer, world: World, action: str, kind: str
) -> None:
    room, channel = world.places[kind]
    admin = await wire(public_server, token=world.tokens["admin"])
    answers = []
    for role in ROLES:
        token = {"token": world.tokens[role]} if world.tokens[role] else {}
        client = await wire(public_server, **token)
        assert client.registered["role"] == {"anonymous": "anonymous", "admin": "admin"}.get(role, "user")
        answers.append(await act(client, action, room, channel, admin))
    assert tuple(answers) == MATRIX[action][kind]


def test_the_matrix_has_every_command() -> None:
    assert set(registry) == set(MATRIX) - {"publish"}
    assert all(set(kinds) == set(KINDS) for kinds in MATRIX.values())


@pytest.mark.parametrize("role", ROLES)
async def test_lists_show_what_one_may_know_of_and_nothing_else(
    wire: Connect, public_server: BusServer, world: World, role: str
) -> None:
    admin = await wire(public_server, token=world.tokens["admin"])
    private, system = world.places["private"], world.places["system"]
    await admin.join(*private)
    await admin.join(*system)
    token = {"token": world.tokens[role]} if world.tokens[role] else {}
    client = await wire(public_server, room=":".join(world.places["public"]), **token)
    status = await client.request("status", limit=500)
    every = await client.request("list_channels", all=True)
    seen = {
        kind: (
            any((row["room"], row["channel"]) == place for row in status["channels"]),
            any((row["room"], row["channel"]) == place for row in every["channels"]),
            any(f"{place[0]}:{place[1]}" in row["channels"] for row in status["clients"]),
        )
        for kind, place in world.places.items()
    }
    everything, nothing = (True, True, True), (False, False, False)
    assert seen["public"] == everything
    assert seen["private"] == (nothing if role == "anonymous" else everything)
    assert seen["system"] == (everything if role == "admin" else nothing)
    if role == "anonymous":
        # A private room is the same as none, in every answer.
        questions: list[tuple[str, dict[str, Any]]] = [
            ("list_channels", {}),
            ("history", {}),
            ("history", {"channel": "hall"}),
            ("channel_info", {"channel": "hall"}),
        ]
        for command, asked in questions:
            there = await client.command(command, room=private[0], **asked)
            none = await client.command(command, room=f"{private[0]}-none", **asked)
            assert there["error"]["code"] == none["error"]["code"], command
            assert there["message"].replace(private[0], "") == none["message"].replace(f"{private[0]}-none", ""), (
                command
            )


async def test_who_may_not_see_presence_is_told_nobody(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.grant("client_type", "blind", "presence", f"{fresh_room}:*", allow=False)
    seeing = await wire(public_server, room=f"{fresh_room}:hall")
    blind = await wire(public_server, room=f"{fresh_room}:hall", client_type="blind")
    await seeing.expect(event="client_joined")
    assert len((await seeing.request("channel_info"))["participants"]) == 2
    async with asyncio.timeout(10):
        while (await blind.request("channel_info"))["participants"]:
            await blind.ping()  # The new rule is on its way.
    third = await wire(public_server, room=f"{fresh_room}:hall")
    await seeing.expect(event="client_joined")
    await third.close()
    await seeing.expect(event="client_left")
    await blind.expect_nothing(
        predicate=lambda f: f.get("payload", {}).get("event") in ("client_joined", "client_left")
    )
    mine = [row["client_id"] for row in (await blind.request("status", limit=500))["clients"]]
    assert blind.client_id in mine
    assert seeing.client_id not in mine


async def test_scopes_bound_an_admin_too(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    token = console.token("reads only", admin=True, scopes=["join", "history"])
    client = await wire(public_server, token=token, room=f"{fresh_room}:hall")
    with pytest.raises(WireError) as refused:
        await client.publish("no", ack=True)
    assert refused.value.code == FORBIDDEN
    with pytest.raises(WireError) as refused:
        await client.publish("no", room="*", ack=True)
    assert refused.value.code == FORBIDDEN
    for command in ("create_channel", "delete_channel"):
        assert (await client.command(command, channel="hall"))["error"]["code"] == FORBIDDEN
    mint = console.run(
        f"""
        from bus.auth import identity
        from bus.protocol.errors import BusError
        actor = identity.from_bearer({token!r})
        result = []
        for attempt in (
            lambda: tokens.create(actor, "more", admin=True, door="test"),
            lambda: services.clients.disconnect(actor, "anybody", door="test"),
            lambda: tokens.revoke(actor, AccessToken.objects.exclude(name='reads only').first(), door="test"),
        ):
            try:
                attempt()
                result.append("done")
            except BusError as refused:
                result.append(refused.code)
        """
    )
    assert mint == [FORBIDDEN] * 3


async def test_a_users_token_has_no_other_tokens_grants(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """Users name their own tokens; a grant to the token `ci` is not for everybody who calls theirs so."""
    console.private_room(fresh_room, "lab")
    console.user(f"{fresh_room}-u")
    console.grant("token", "ci", "join", f"{fresh_room}:*")
    console.grant("token", f"{fresh_room}-u/mine", "join", f"{fresh_room}:*")
    with pytest.raises(WireError) as refused:
        await wire(public_server, token=console.token("ci", user=f"{fresh_room}-u"), room=f"{fresh_room}:lab")
    assert refused.value.code == NO_CHANNEL
    await wire(public_server, token=console.token("ci"), room=f"{fresh_room}:lab")
    await wire(public_server, token=console.token("mine", user=f"{fresh_room}-u"), room=f"{fresh_room}:lab")


async def test_a_ban_of_a_user_holds_however_the_name_was_typed(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    """Django keeps names in one form (NFKC); a ligature or a wide letter in a grant is the same name."""
    console.user(f"fiona-{fresh_room}")
    client = await wire(public_server, token=console.token(f"of fiona {fresh_room}", user=f"fiona-{fresh_room}"))
    with rest(public_server, **bearer(console.token(f"typist {fresh_room}", admin=True))) as caller:
        ban = {"subject": "user", "subject_name": f"ﬁona-{fresh_room}", "action": "join", "pattern": f"{fresh_room}:*"}
        made = caller.post("grants", json={**ban, "allow": False}).json()
    assert made["subject_name"] == f"fiona-{fresh_room}"
    with pytest.raises(WireError) as refused:
        await client.join(fresh_room, "hall")
    assert refused.value.code == "FORBIDDEN"
