"""The contract of the sockets: valid AsyncAPI, complete, and true of what the server takes and sends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.core.management import CommandError, call_command

from bus.commands import registry
from bus.contracts import document
from bus.protocol.dialects import decode_object, normalise
from bus.protocol.errors import CLOSE_CODES, ERRORS
from bus.protocol.faults import FrameError
from tests.conftest import Connect
from tests.harness.client import WireClient
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

DATA = Path(__file__).parent / "data"
COMMITTED = PROJECT_ROOT / "docs" / "asyncapi.json"


def validator(contract: dict[str, Any], *names: str) -> jsonschema.Draft7Validator:
    """A validator of frames against any of these messages of the contract."""
    messages = contract["components"]["messages"]
    schema = {"components": contract["components"], "anyOf": [messages[name]["payload"] for name in names]}
    return jsonschema.Draft7Validator(schema)


def directions(contract: dict[str, Any], socket: str) -> tuple[list[str], list[str]]:
    """The names of the messages that the server takes, and of those it sends (answers of commands among them)."""
    taken: list[str] = []
    sent: list[str] = []
    for operation in contract["operations"].values():
        if not operation["channel"]["$ref"].endswith(f"/{socket}"):
            continue
        names = [row["$ref"].rpartition("/")[2] for row in operation["messages"]]
        (taken if operation["action"] == "receive" else sent).extend(names)
        sent.extend(row["$ref"].rpartition("/")[2] for row in operation.get("reply", {}).get("messages", ()))
    return taken, sorted(set(sent))


def closed(value: Any) -> Any:
    """The contract as one that names every key: with a frame that has another one it does not agree."""
    if isinstance(value, list):
        return [closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: closed(item) for key, item in value.items()}
    return {"additionalProperties": False, **made} if made.get("type") == "object" and "properties" in made else made


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    """The document as it is made now, through JSON as a reader gets it."""
    made: dict[str, Any] = json.loads(json.dumps(document()))
    return made


@pytest.mark.pure
def test_it_is_valid_by_the_official_schema_of_asyncapi_3(contract: dict[str, Any]) -> None:
    schema = json.loads((DATA / "asyncapi-3.0.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(contract)
    broken = {**contract, "operations": {"x": {"action": "shout", "channel": {"$ref": "#/channels/bus"}}}}
    assert not jsonschema.Draft7Validator(schema).is_valid(broken)


@pytest.mark.pure
def test_every_reference_leads_somewhere_and_every_schema_is_one(contract: dict[str, Any]) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                target: Any = contract
                for part in reference.removeprefix("#/").split("/"):
                    target = target[part]
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                walk(item)

    walk(contract)
    for schema in contract["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.pure
def test_the_committed_document_is_the_one_that_the_code_makes(contract: dict[str, Any]) -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == contract, (
        "manage.py asyncapi --output docs/asyncapi.json"
    )


@pytest.mark.pure
def test_commands_errors_and_close_codes_are_all_there(contract: dict[str, Any]) -> None:
    operations = contract["operations"]
    for name, command in registry.items():
        operation = operations[f"bus.receive.command.{name}"]
        assert (operation["x-who"], tuple(operation.get("x-errors", ()))) == (command.who, command.errors)
        parameters = contract["components"]["messages"][f"command.{name}"]["payload"]["properties"]["parameters"]
        schema = contract["components"]["schemas"][parameters["$ref"].rpartition("/")[2]]
        assert set(schema["properties"]) == set(command.parameters.__struct_fields__)
    assert {code: row["number"] for code, row in contract["x-errors"].items()} == {
        code: kind.number for code, kind in ERRORS.items()
    }
    assert {int(code): row["reconnect"] for code, row in contract["x-close-codes"].items()} == {
        code: kind.reconnect for code, kind in CLOSE_CODES.items()
    }


@pytest.mark.pure
def test_the_examples_are_taken_by_the_normaliser_and_match_their_own_schema(contract: dict[str, Any]) -> None:
    taken, _ = directions(contract, "bus")
    messages = contract["components"]["messages"]
    seen = 0
    for name, message in messages.items():
        for example in message.get("examples", ()):
            validator(contract, name).validate(example["payload"])
            seen += 1
            if name in taken:
                inbound = normalise(decode_object(json.dumps(example["payload"]).encode()))
                assert inbound.type == name
    assert seen >= 6


GOOD: list[dict[str, Any]] = [
    {},
    {"message": "hello"},
    {"type": "mood", "message": {"any": "value"}, "payload": {"x": 1}, "ack": True, "echo": False},
    {"type": "event", "id": 7, "room": "science:explore", "metadata": {"k": None}},
    {"type": "private", "to": "bob", "payload": {"x": 1}},
    {"type": "private", "to": ["bob", "al@x"], "ack": True},
    {"type": "system", "room": "science", "message": "x"},
    {"version": "1.0", "id": "arq_1", "type": "event", "payload": {"message": "hi"}},
    {"client_id": "me"},
    {"type": "register", "client_id": "me", "personality": {"calm": True}, "since": 4, "epoch": "e"},
    {"type": "register", "resume": {"token": "t", "positions": {"science:explore": {"epoch": "e", "seq": 41}}}},
    {"type": "command", "command": "ping", "parameters": {"echo": [1]}},
    {"command": "history", "id": "arq_1", "parameters": {"room": "science", "limit": 5}},
    {"type": "event", "id": "a1", "stream": {"mode": "parts"}, "payload": {}},
    {"type": "event", "stream": "a key of my own", "steer": 5},
    {"type": "event", "steer": "arq_a1", "message": "shorter"},
    {"type": "append", "of": "arq_a1", "n": 1, "delta": ""},
    {"type": "append", "of": "arq_a1", "n": 0, "end": "aborted", "payload": {}, "took": ["arq_s1"], "token": "t"},
    {"version": "1.0", "id": "arq_1", "type": "append", "of": "arq_a1", "n": 2, "part": {"type": "x"}, "ack": True},
]
BAD: list[dict[str, Any]] = [
    {"type": "event", "payload": "text"},
    {"type": "event", "payload": []},
    {"type": "event", "metadata": 1},
    {"type": "event", "ack": "yes"},
    {"type": "event", "echo": 1},
    {"type": "event", "room": 5},
    {"type": "event", "channel": ["explore"]},
    {"type": "event", "id": ""},
    {"type": "event", "id": "x" * 129},
    {"type": "x" * 65},
    {"type": 5},
    {"version": "2.0", "id": "arq_1", "type": "event"},
    {"type": "private", "to": "two words"},
    {"type": "private", "to": [1]},
    {"type": "register", "client_id": "no spaces"},
    {"type": "register", "client_id": "x" * 65},
    {"type": "register", "screen_name": "x" * 129},
    {"type": "register", "personality": []},
    {"type": "register", "resume": {"positions": {"science:explore": {"seq": "41"}}}},
    {"type": "append", "of": "arq_a1", "n": "1", "delta": "x"},
    {"type": "append", "of": "arq_a1", "n": -1, "delta": "x"},
    {"type": "append", "of": "arq_a1", "n": 2**53, "delta": "x"},
    {"type": "append", "of": "", "n": 1, "delta": "x"},
    {"type": "append", "of": "arq_a1", "n": 1, "delta": 5},
    {"type": "append", "of": "arq_a1", "n": 1, "part": "x"},
    {"type": "append", "of": "arq_a1", "n": 1, "end": "open"},
    {"type": "append", "of": "arq_a1", "n": 1, "delta": "x", "token": ""},
    {"type": "append", "of": "arq_a1", "n": 1, "delta": "x", "took": ["x"] * 101},
    {"type": "command", "command": 5},
    {"type": "command", "command": "ping", "parameters": [1]},
]


@pytest.mark.pure
@pytest.mark.parametrize("frame", GOOD, ids=json.dumps)
def test_what_the_normaliser_takes_matches_the_contract(contract: dict[str, Any], frame: dict[str, Any]) -> None:
    normalise(decode_object(json.dumps(frame).encode()))
    taken, _ = directions(contract, "bus")
    validator(contract, *taken).validate(frame)


@pytest.mark.pure
@pytest.mark.parametrize("frame", BAD, ids=lambda frame: json.dumps(frame)[:60])
def test_what_the_normaliser_refuses_does_not_match(contract: dict[str, Any], frame: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        normalise(decode_object(json.dumps(frame).encode()))
    kind = frame["type"]
    names = [kind] if kind in ("private", "register", "append") else ["event"]
    if kind == "command":
        names = [f"command.{name}" for name in registry]
    assert not validator(contract, *names).is_valid(frame)


#: The commands of work, which need a claim or a job.
DECISIONS = ("request_decision", "await_decision", "decide", "consume_decision", "cancel_decision")
WORK = ("claim", "renew", "done", "release", "reject", "work", "retry_job", "discard_job")


async def test_every_frame_of_a_session_matches_the_contract(
    contract: dict[str, Any], shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    _, sent = directions(contract, "bus")
    contract = closed(contract)
    by_answer = {name: validator(contract, f"command.{name}.response") for name in registry}
    anything = validator(contract, *sent)
    token = shared_server.create_token("contract", admin=True)
    for dialect in ("v0", "v1"):
        room = f"{fresh_room}-{dialect}"
        admin = await wire(shared_server, client_id=f"admin-{room}", token=token, dialect=dialect)
        guest = await wire(shared_server, client_id=f"guest-{room}", room=f"{room}:talk", dialect=dialect, since="mark")
        await admin.command("create_channel", room=room, channel="made", description="x", retention={"count": 5})
        await admin.command("create_channel", room=room, channel="made")
        await admin.join(room, "talk")
        await guest.expect("system", "client_joined")
        for command in registry:
            parameters: dict[str, Any] = (
                {"room": room, "channel": "talk"} if command.endswith(("channel", "info", "history")) else {}
            )
            if command == "mark":
                parameters = {"seq": 0}
            if command in (
                "delete_channel",
                "leave_channel",
                "create_channel",
                "stop_stream",
                "adopt_stream",
                "erase_message",
                *WORK,
                *DECISIONS,
            ):
                continue
            assert (await admin.command(command, **parameters))["status"] == "success", command
        await guest.publish("text", ack=True, room=room, channel="talk", payload={"n": 1}, metadata={"k": 1})
        await guest.publish("to all", ack=True, room=room)
        await guest.publish("psst", ack=True, type="private", to=[f"admin-{room}"])
        await guest.publish("both", ack=True, type="private", to=[f"admin-{room}", f"guest-{room}"])
        await guest.publish("own type", type="mood" if dialect == "v0" else "event", room=room, channel="talk")
        await admin.publish("attention", ack=True, type="system", room=room)
        await _grow(admin, guest, f"a-{room}", {"room": room, "channel": "talk"})
        await _work(admin, {"room": room, "channel": "jobs"})
        await _decide(admin, guest, {"room": room, "channel": "talk"})
        await admin.command("erase_message", room=room, channel="talk", seq=1)
        await guest.send("this is no JSON")
        await guest.command("delete_channel", room=room, channel="made")
        await guest.command("no_such_command")
        await admin.command("history", room=room)
        await admin.command("join_channel", room=room, channel="talk", since=99, epoch="other")
        await admin.leave(room, "talk")
        await guest.expect("system", "client_left")
        await admin.command("delete_channel", room=room, channel="made")
        frames = [*admin.frames, *guest.frames]
        for frame in frames:
            anything.validate(frame)
            if frame["type"] == "command_response" and frame["status"] == "success":
                by_answer[frame["command"]].validate(frame)
        answered = {frame["command"] for frame in frames if frame.get("status") == "success"}
        assert answered == set(registry)
        kinds = {frame["type"] for frame in frames}
        assert kinds >= {"system", "event", "private", "ack", "error", "command_response"}


async def _decide(decider: WireClient, asker: WireClient, place: dict[str, Any]) -> None:
    """Decisions with an answer that is used, and one that is withdrawn."""
    question: dict[str, Any] = {**place, "title": "May I?", "action": "pay", "args": {"sum": 3}}
    made, other = [
        (await asker.command("request_decision", key=key, **question))["result"]["decision"] for key in ("a", "b")
    ]
    await decider.command("decide", decision=made, answer="approve")
    await asker.command("await_decision", decision=made)
    await asker.command("consume_decision", decision=made)
    await asker.command("consume_decision", decision=made)
    await asker.command("cancel_decision", decision=other)
    await decider.command("decide", decision=other, answer="approve")


async def _work(worker: WireClient, place: dict[str, Any]) -> None:
    """Jobs with every end of a claim, and what an operator does to them."""
    await worker.command("create_channel", **place, work={})
    await worker.join(place["room"], place["channel"])
    for _ in range(3):
        await worker.publish(ack=True, **place)
    jobs = (await worker.command("claim", **place, max=3))["result"]["claims"]
    for command, job in zip(("done", "release", "reject"), jobs, strict=True):
        await worker.command("renew", claim=job["claim"])
        await worker.command(command, claim=job["claim"])
    await worker.command("renew", claim=jobs[1]["claim"])
    await worker.command("work", **place)
    await worker.command("retry_job", **place, seq=3)
    await worker.command("discard_job", **place, seq=2)
    await worker.expect("system", "work")


async def _grow(owner: WireClient, reader: WireClient, name: str, place: dict[str, str]) -> None:
    """A streamed message with everything that may happen to one."""
    v1 = {"version": "1.0"} if owner.dialect == "v1" else {}
    of = f"arq_{name}"
    for frame in (
        {"type": "event", "id": of, **place, "stream": {}, "payload": {"role": "assistant"}, "ack": True},
        {"type": "append", "id": f"{of}1", "of": of, "n": 1, "delta": "Hel", "ack": True},
        {"type": "append", "id": f"{of}3", "of": of, "n": 3, "delta": "gap", "ack": True},
    ):
        await owner.send({**v1, **frame})
    await owner.expect("error", predicate=lambda frame: frame["error"]["code"] == "STREAM_GAP")
    await reader.expect("append", predicate=lambda frame: frame.get("n") == 1)
    await reader.join(place["room"], place["channel"])
    await reader.send({**v1, "type": "event", "id": f"{of}s", **place, "steer": of, "message": "less", "ack": True})
    await owner.expect("system", "steer")
    adopted = await owner.request("adopt_stream", of=of, keep=False)
    await reader.command("stop_stream", of=of)
    await owner.expect("system", "stop_requested")
    end = {"type": "append", "id": f"{of}e", "of": of, "n": 0, "end": "complete", "token": adopted["token"]}
    await owner.send({**v1, **end, "ack": True})
    await owner.command("stop_stream", of=of)
    await reader.expect("stream_end")


def test_it_is_served_as_json_and_as_a_page_without_anything_inline(shared_server: BusServer) -> None:
    served = shared_server.get_json("/api/asyncapi.json")
    assert served["servers"]["this"]["host"] == f"{shared_server.host}:{shared_server.port}"
    assert served["channels"] == document()["channels"]
    status, body = shared_server.get("/api/asyncapi/")
    page = body.decode()
    assert status == 200
    assert all(f"<code>{code}</code>" in page for code in [*ERRORS, *map(str, CLOSE_CODES), *registry])
    assert re.findall(r"<script|<style|\sstyle=|\son\w+=|https?://(?!127\.0\.0\.1)", page) == []
    assert shared_server.get("/static/arqonbus/contracts.css")[0] == 200


@pytest.mark.pure
def test_the_command_prints_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("asyncapi", "--host", "bus.example.org", "--secure")
    printed = json.loads(capsys.readouterr().out)
    assert printed["servers"]["this"]["host"] == "bus.example.org"
    assert printed["servers"]["this"]["protocol"] == "wss"
    target = tmp_path / "asyncapi.json"
    call_command("asyncapi", "--output", str(target))
    call_command("asyncapi", "--check", str(target))
    target.write_text(target.read_text().replace("ArqonBus", "Other"))
    with pytest.raises(CommandError, match="is not up to date"):
        call_command("asyncapi", "--check", str(target))
