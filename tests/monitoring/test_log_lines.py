"""Log lines: their two forms, what they tell, and what they never tell."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any

import pytest

from bus.monitoring.log_lines import Damper, formatter
from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient, WireError
from tests.harness.waiting import wait_until


def _record(sentence: str, *args: object, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("arqonbus.test", logging.WARNING, __file__, 1, sentence, args, None)
    vars(record).update(extra)
    return record


@pytest.mark.pure
def test_a_line_for_people_shows_the_sentence_and_the_name_of_the_event() -> None:
    line = formatter("console").format(_record("closed %s", 4012, event="closed", client="c-1", code=4012))
    assert "closed 4012" in line
    assert "WARNING" in line
    assert line.endswith("event=closed client=c-1 code=4012")


@pytest.mark.pure
def test_a_line_for_machines_keeps_them_under_separate_keys() -> None:
    line = json.loads(formatter("json").format(_record("closed %s", 4012, event="closed", code=4012, error=None)))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "arqonbus.test",
        "message": "closed 4012",
        "event": "closed",
        "code": 4012,
        "error": None,
    }


@pytest.mark.pure
@pytest.mark.parametrize("form", ["console", "json"])
def test_a_field_cannot_pass_for_another_line_or_field(form: str) -> None:
    line = formatter(form).format(
        _record("hello\n%s", "x", event="test", client='evil\n2026 INFO admin="1" event=fine')
    )
    assert "\n" not in line
    assert " event=fine" not in line.replace('admin=\\"1\\" event=fine', "")


@pytest.mark.pure
@pytest.mark.parametrize("form", ["console", "json"])
def test_nothing_of_others_in_a_line_moves_a_terminal_or_turns_it_around(form: str) -> None:
    odd = "evil\x1b[2J\x7f\u009b\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069"
    record = _record("hello %s", odd, event="test", client=odd)
    try:
        raise ValueError(odd)
    except ValueError as problem:
        record.exc_info = (ValueError, problem, problem.__traceback__)
    shown = formatter(form).format(record)
    assert not set(odd[4:]) - set("[2J") & set(shown)
    assert shown.count("evil") >= 3


@pytest.mark.pure
@pytest.mark.parametrize("form", ["console", "json"])
def test_objects_of_other_loggers_are_left_out_since_their_text_could_tell_secrets(form: str) -> None:
    class Request:
        def __repr__(self) -> str:
            return "<Request: GET '/?token=arq_tok_secret'>"

    line = formatter(form).format(_record("Not Found: /x", status_code=404, request=Request()))
    assert "404" in line
    assert "secret" not in line


@pytest.mark.pure
@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_is_part_of_the_line_s_record(form: str) -> None:
    try:
        raise ValueError("what went wrong")
    except ValueError as problem:
        record = _record("failed", event="test")
        record.exc_info = (ValueError, problem, problem.__traceback__)
    shown = formatter(form).format(record)
    assert "ValueError: what went wrong" in shown
    assert ("\n" in shown) is (form == "console")


@pytest.mark.pure
def test_a_flood_of_lines_is_cut_and_the_next_one_tells_how_many_were_left_out() -> None:
    damper = Damper(rate=1000.0, burst=3.0)
    admitted = [damper.admit() for _ in range(50)]
    assert admitted[:3] == [0, 0, 0]
    left_out = admitted.count(None)
    assert left_out > 30
    told = wait_until(lambda: [n for n in [damper.admit()] if n is not None], "a line is let through again")
    assert told[0] >= left_out - sum(n or 0 for n in admitted)


def _lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


@pytest.mark.embedded
async def test_a_server_s_log_tells_what_was_done_by_whom_and_never_what_was_said(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = start_server(
        "runbus",
        env={"ARQONBUS_LOG_FORMAT": "json", "ARQONBUS_LOG_LEVEL": "DEBUG", "ARQONBUS_STATS_INTERVAL": "0.3"},
    )
    said = secrets.token_hex(8)
    admin_token = server.create_token("boss", admin=True)
    admin = await wire(server, client_id="boss", token=admin_token)
    bad_token = f"arq_tok_{said}"
    with pytest.raises(WireError):
        await WireClient.connect(server.url, token=bad_token)
    client = await wire(server, client_id="worker", room=f"{fresh_room}:a", personality={"mood": said})
    await client.publish(said, payload={"text": said}, metadata={"m": said}, ack=True, message_id=said)
    await client.publish(said, type="private", to=["boss"], ack=True)
    await client.send({"type": "telemetry", "eventType": said, "payload": {"text": said}})
    await client.expect(type="telemetry_ack")
    await client.ping()
    await client.send(f'{{"broken": "{said}"')
    await client.expect(type="error")
    with pytest.raises(WireError):
        await client.request("create_channel", room=fresh_room, channel=said[:4])
    await client.command(said)
    await admin.request("create_channel", room=fresh_room, channel="made")
    server.get(f"/nowhere?token={said}")
    server.get(f"/?token={said}")
    await client.close()

    wait_until(
        lambda: ("disconnected", "worker") in {(n.get("event"), n.get("client")) for n in _lines(server.log())},
        "the end of the connection is logged",
    )
    server.process.wait_for_log('"event":"stats"')
    assert said not in server.log()
    assert admin_token not in server.log()
    lines = _lines(server.log())
    assert all({"timestamp", "level", "logger", "message"} <= line.keys() for line in lines)
    mine = [line for line in lines if line.get("client") == "worker"]
    ids = {line["connection"] for line in mine}
    assert len(ids) == 1
    events = [line["event"] for line in mine]
    assert events.count("registered") == events.count("disconnected") == 1
    routed = {(line["kind"], line["room"], line["channel"]) for line in mine if line["event"] == "routed"}
    assert routed == {("publish", fresh_room, "a"), ("private", "pm", "boss")}
    refused = [(line["command"], line["error"]) for line in mine if line["event"] == "refused"]
    assert refused == [(None, "INVALID_JSON"), ("create_channel", "FORBIDDEN"), (None, "UNKNOWN_COMMAND")]
    commands = [(line["client"], line["command"], line["level"]) for line in lines if line.get("event") == "command"]
    assert ("worker", "ping", "debug") in commands
    assert ("boss", "create_channel", "info") in commands
    stats = [line for line in lines if line.get("event") == "stats"][-1]
    assert {"clients", "rooms", "channels", "messages", "rate", "node"} <= stats.keys()
