"""Streamed messages on the command line: written from standard input, and shown while they grow."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from arqonbus import sync
from tests.clients_python.conftest import Cli, client_environment, start_cli
from tests.clients_python.test_cli import Tail, objects
from tests.harness.server import BusServer

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


def pieces(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """A started command, when it has said what it writes."""
    assert process.stderr is not None
    assert "writing arq_" in process.stderr.readline()
    return process


def test_standard_input_becomes_one_message_that_grows(
    cli: Cli, speaker: sync.Bus, fresh_room: str, admin_token: str
) -> None:
    address = f"{fresh_room}:42"
    done = cli(
        "stream", address, "--create", "--json", "--payload", '{"role": "assistant"}', stdin="Grüße, 🌍\nthe end"
    )
    assert done.returncode == 0, done.stderr
    (row,) = objects(done.stdout)
    assert (row["seq"], row["end_seq"], row["state"], row["untaken"]) == (1, 2, "complete", [])
    (answer,) = speaker.history_page(address).messages
    assert (answer.id, answer.text, answer.payload) == (row["of"], "Grüße, 🌍\nthe end", {"role": "assistant"})
    run = ("--parts", "--run", fresh_room, "--token", admin_token)
    parts = cli("stream", address, *run, stdin='{"n": 1}\n\n{"n": 2}\n')
    assert parts.returncode == 0, parts.stderr
    assert f"{address} #4, complete, 2 parts" in parts.stderr
    again = cli("stream", address, *run, stdin='{"n": 1}\n')
    assert (again.returncode, "STREAM_ENDED" in again.stderr) == (6, True)
    wrong = cli("stream", address, "--parts", stdin='{"n": 1}\n[]\n')
    assert (wrong.returncode, "Line 2 of standard input is not a JSON object" in wrong.stderr) == (2, True)
    assert "no channel" in cli("stream", f"{fresh_room}:nowhere", stdin="x").stderr
    shown = cli("history", address).stdout.splitlines()
    assert "(2 parts)" in shown[2]
    assert shown[3].endswith("[aborted]")


def test_a_stop_and_ctrl_c_end_a_streamed_message(shared_server: BusServer, speaker: sync.Bus, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    command = ("stream", "--create", address)
    with speaker.subscribe(address) as messages:
        for state, code in (("stopped", 8), ("aborted", 130)):
            with pieces(start_cli(*command, env=client_environment(shared_server), stdin=subprocess.PIPE)) as writing:
                assert writing.stdin is not None
                writing.stdin.write("so far")
                writing.stdin.flush()
                answer = messages.get(20)
                assert next(iter(answer.deltas())) == "so far"
                if state == "stopped":
                    speaker.stop_stream(answer.id)
                else:
                    writing.send_signal(signal.SIGINT)
                assert writing.wait(20) == code
                assert writing.stderr is not None
                assert "Traceback" not in writing.stderr.read()
            assert (answer.ended().state, answer.text) == (state, "so far")


def test_tail_shows_an_answer_as_one_line_and_its_frames_to_scripts(
    shared_server: BusServer, speaker: sync.Bus, fresh_room: str
) -> None:
    address = f"{fresh_room}:42"
    with (
        Tail(shared_server, "--create", address, "--count", "2") as lines,
        Tail(shared_server, "--create", address, "--json") as frames,
        speaker.stream(address, roll_up=0, payload={"role": "assistant"}) as out,
    ):
        out.write("one, ")
        out.write("two")
        out.flush()
        speaker.publish(address, "meanwhile")
        first = lines.lines(1)
        out.end()
        second = lines.lines(1)
        assert first[0].endswith("meanwhile")
        assert second[0].endswith(f'{address} #1 {speaker.client_id}  one, two  {{"role": "assistant"}}')
        assert lines.process.wait(20) == 0
        raw = [json.loads(line) for line in frames.lines(5)]
        assert [row["type"] for row in raw] == ["event", "append", "append", "event", "stream_end"]
        assert [row.get("delta") for row in raw[1:3]] == ["one, ", "two"]
        assert raw[4]["message"] == "one, two"


def test_tail_ends_when_nobody_reads_the_end_of_an_answer(
    shared_server: BusServer, speaker: sync.Bus, fresh_room: str
) -> None:
    address = f"{fresh_room}:42"
    with Tail(shared_server, "--create", address) as tail, speaker.stream(address, roll_up=0) as out:
        out.write("one")
        out.flush()
        speaker.publish(address, "meanwhile")
        assert tail.lines(1)[0].endswith("meanwhile")
        assert tail.process.stdout is not None
        tail.process.stdout.close()  # As `| head -n 1` does.
        out.end()
        assert tail.process.wait(20) == 0
        assert tail.process.stderr is not None
        assert "Traceback" not in tail.process.stderr.read()


def test_an_answer_grows_in_place_on_a_terminal(shared_server: BusServer, speaker: sync.Bus, fresh_room: str) -> None:
    address = f"{fresh_room}:42"
    command = shlex.join([sys.executable, "-m", "arqonbus", "tail", "--create", address, "--count", "1"])
    env = {**client_environment(shared_server), "TERM": "xterm"}
    with subprocess.Popen(
        ["script", "-qefc", command, "/dev/null"], env=env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as tail:
        assert tail.stdout is not None
        assert b"listening" in os.read(tail.stdout.fileno(), 65536)
        with speaker.stream(address, roll_up=0) as out:
            out.write("thinking")
            seen = b""
            while "thinking …".encode() not in seen:
                seen += os.read(tail.stdout.fileno(), 65536)
            out.write(" aloud")
        rest = tail.stdout.read().decode()
        assert tail.wait(20) == 0
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", rest).rstrip().endswith(f"{speaker.client_id}  thinking aloud")
