"""The command line as a script meets it: a process with arguments, streams and an exit code, against a real server."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arqonbus import sync
from tests.clients_python.conftest import Cli, client_environment, start_cli
from tests.conftest import StartServer
from tests.harness.server import BusServer

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


def objects(text: str) -> list[Any]:
    """The JSON objects of an output, one a line."""
    return [json.loads(line) for line in text.splitlines()]


class Tail:
    """A running `arqonbus tail`."""

    def __init__(self, server: BusServer, *arguments: str) -> None:
        self.process = start_cli("tail", *arguments, env=client_environment(server))
        # It says that it listens on standard error, after it joined.
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()

    def lines(self, number: int) -> list[str]:
        """The next lines of its output."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline().rstrip("\n") for _ in range(number)]

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)

    def interrupt(self) -> int:
        """Ctrl+C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        return self.process.returncode


def test_pub_and_history_give_a_script_what_it_needs(cli: Cli, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    once = ("--id", "arq_one", "--client-id", fresh_room, "--json")
    done = cli("pub", address, "hello", "--create", "--payload", '{"n": 1}', *once)
    assert (done.returncode, done.stderr) == (0, "")
    expected = {"id": "arq_one", "room": fresh_room, "channel": "talk", "seq": 1, "duplicate": False}
    assert objects(done.stdout) == [expected]
    again = cli("pub", address, "hello", *once)
    assert objects(again.stdout) == [{**expected, "duplicate": True}]
    lines = cli("pub", address, "-", stdin="two\nthree\n")
    assert lines.returncode == 0
    assert f"{address} #3" in lines.stderr
    assert lines.stdout == ""
    read = cli("history", address, "--since", "10m", "--json")
    assert read.returncode == 0
    assert [(row["message"], row["seq"]) for row in objects(read.stdout)] == [("hello", 1), ("two", 2), ("three", 3)]
    newest = cli("history", address, "--limit", "1")
    assert [line.split()[-1] for line in newest.stdout.splitlines()] == ["three"]


def test_tail_shows_messages_until_it_is_stopped(shared_server: BusServer, speaker: sync.Bus, fresh_room: str) -> None:
    tail = Tail(shared_server, "--create", f"{fresh_room}:a", f"{fresh_room}:b")
    assert tail.said.startswith(f"listening to {fresh_room}:a, {fresh_room}:b as ")
    speaker.publish(f"{fresh_room}:a", "first")
    first = tail.lines(1)
    speaker.publish(f"{fresh_room}:b", {"n": 1})
    second = tail.lines(1)
    speaker.publish(fresh_room, "to all, shown once")
    speaker.publish(f"{fresh_room}:a", "bell \a and \x1b[31mred")
    third, fourth = tail.lines(2)
    assert first[0].endswith(f"{fresh_room}:a #1 {speaker.client_id}  first")
    assert second[0].endswith(f'{fresh_room}:b #1 {speaker.client_id}  {{"n": 1}}')
    assert third.endswith("to all, shown once")
    assert fourth.endswith("bell \\x07 and \\x1b[31mred")
    assert tail.interrupt() == 130


def test_tail_ends_by_count_or_time(cli: Cli, speaker: sync.Bus, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    for n in range(3):
        speaker.publish(address, {"n": n})
    some = cli("tail", address, "--since", "0", "--count", "2", "--json")
    assert (some.returncode, [row["payload"]["n"] for row in objects(some.stdout)]) == (0, [0, 1])
    late = cli("tail", address, "--count", "1", "--timeout", "0.2")
    assert (late.returncode, late.stdout) == (7, "")
    assert "error: 0 of 1 messages arrived within 0.2 s." in late.stderr
    assert cli("tail", address, "--timeout", "0.2").returncode == 0


def test_tail_goes_on_over_a_restart_of_the_server(start_server: StartServer, fresh_room: str) -> None:
    server = start_server()
    tail = Tail(server, f"{fresh_room}:talk", "--create", "--json")
    with sync.connect(server.url) as speaker:
        speaker.publish(f"{fresh_room}:talk", "before")
        before = tail.lines(1)
        server.restart()
        speaker.publish(f"{fresh_room}:talk", "after")
        after = tail.lines(1)
    assert [(row["message"], row["seq"]) for row in map(json.loads, before + after)] == [("before", 1), ("after", 2)]
    assert tail.interrupt() == 130


def test_status_channels_and_who_tell_people_and_scripts(cli: Cli, speaker: sync.Bus, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    speaker.join(address)
    speaker.set_status("in review", task="task-7")
    status = cli("status")
    assert status.returncode == 0
    assert "ArqonBus " in status.stdout
    assert speaker.client_id in status.stdout
    assert ("in review" in status.stdout, "task-7" in status.stdout) == (True, True)
    assert {"server", "stats", "clients"} <= objects(cli("status", "--json").stdout)[0].keys()
    assert address in cli("channels", fresh_room).stdout
    assert [row["channel"] for row in objects(cli("channels", fresh_room, "--json").stdout)] == ["talk"]
    who = cli("who", address)
    assert speaker.client_id in who.stdout
    assert ("in review" in who.stdout, "task-7" in who.stdout) == (True, True)
    assert f"{address}: 1 connected" in who.stderr
    assert [row["client_id"] for row in objects(cli("who", address, "--json").stdout)] == [speaker.client_id]


def test_bench_measures_and_checks(cli: Cli, speaker: sync.Bus, admin_token: str) -> None:
    done = cli("bench", "--messages", "60", "--publishers", "2", "--subscribers", "3", "--json")
    assert done.returncode == 0, done.stderr
    (figures,) = objects(done.stdout)
    assert (figures["messages"], figures["delivered"]) == (60, 180)
    assert 0 < figures["ack_ms"]["p50"] <= figures["ack_ms"]["p99"]
    # Once more in the same channel, with what the first one left there.
    shown = cli("bench", "--messages", "20")
    assert "publish → delivery" in shown.stdout
    assert cli("bench", "--messages", "20", ARQONBUS_TOKEN=admin_token).returncode == 0
    left = [row["channel"] for row in speaker.list_channels() if row["room"].startswith("bench")]
    assert left == ["load"], "one room with one channel stays, and nothing of the admin's"


@pytest.mark.parametrize("command", ["tail", "pub"])
def test_what_is_not_there_is_not_made_by_a_slip(cli: Cli, speaker: sync.Bus, fresh_room: str, command: str) -> None:
    speaker.publish(f"{fresh_room}:workshop", "here it is")

    def run(address: str, *more: str) -> tuple[int, str]:
        rest = ["hello"] if command == "pub" else ["--timeout", "0.1"]
        done = cli(command, address, *rest, *more)
        return done.returncode, done.stderr

    for wrong, meant in (
        (f"{fresh_room}:workshpo", f"{fresh_room}:workshop"),
        (f"{fresh_room}:zzz", f"{fresh_room}:workshop"),
        (f"{fresh_room[:-1]}:workshop", f"{fresh_room}:workshop"),
    ):
        code, says = run(wrong)
        assert code == 5, says
        assert f"There is no channel {wrong}. Did you mean {meant}?" in says.replace(" or ", "? ")
        assert "--create creates it." in says
    if command == "pub":
        code, says = run(f"{fresh_room[:-1]}:*")
        assert (code, f"There is no room {fresh_room[:-1]}. Did you mean {fresh_room}" in says) == (5, True)
    there = {(row["room"], row["channel"]) for row in speaker.list_channels()}
    assert {channel for room, channel in there if room.startswith(fresh_room[:-1])} == {"workshop"}
    assert run(f"{fresh_room}:workshop")[0] == 0
    assert run(f"{fresh_room}:new", "--create")[0] == 0
    assert speaker.channel_info(f"{fresh_room}:new")["seq"] == (1 if command == "pub" else 0)


def test_who_is_in_a_room(
    shared_server: BusServer, cli: Cli, speaker: sync.Bus, fresh_room: str, admin_token: str
) -> None:
    speaker.join(f"{fresh_room}:a")
    speaker.join(f"{fresh_room}:b")
    rows = objects(cli("who", fresh_room, "--json").stdout)
    assert [(row["address"], row["client_id"]) for row in rows] == [
        (f"{fresh_room}:{channel}", speaker.client_id) for channel in "ab"
    ]
    shown = cli("who", fresh_room)
    assert f"{fresh_room}:a" in shown.stdout
    assert f"{fresh_room}:b: 1 connected" in shown.stderr
    with sync.connect(shared_server.url, token=admin_token) as admin:
        admin.create_channel(f"{fresh_room}:quiet", presence="none")
    assert f"{fresh_room}:quiet does not say who is there" in cli("who", f"{fresh_room}:quiet").stderr


def test_an_inbox_is_followed_from_where_it_was_left(
    shared_server: BusServer, cli: Cli, speaker: sync.Bus, fresh_room: str, tmp_path: Path
) -> None:
    name, file = f"me-{fresh_room}", tmp_path / "me.identity"
    who = ("--identity", str(file), "--json")
    assert cli("tail", "inbox", *who, "--client-id", name, "--timeout", "0.1").returncode == 0
    for n in range(3):
        speaker.private(name, {"n": n})
    first = cli("tail", "inbox", *who, "--count", "2", "--timeout", "20")
    assert [row["payload"]["n"] for row in objects(first.stdout)] == [0, 1]
    with Tail(shared_server, "inbox", *who) as rest:
        assert [json.loads(line)["payload"]["n"] for line in rest.lines(1)] == [2]
        assert rest.interrupt() == 130
    assert cli("tail", "inbox", *who, "--timeout", "0.2").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["pub", "no spaces:x", "hi"], 1, "INVALID_NAME"),
        (["pub", "science:explore"], 2, "Give a text"),
        (["pub", "science:explore", "--payload", "{"], 2, "not JSON"),
        (["pub", "science:explore", "-", "--id", "arq_x"], 2, "Lines from standard input get their own"),
        (["history", "science", "--since", "5"], 2, "no common seq"),
        (["history", "science:explore", "--since", "yesterday"], 2, "10m"),
        (["pub", "science:explore", "x", "--type", "system"], 4, "FORBIDDEN"),
        (["status", "--token", "wrong"], 4, "create_token"),
        (["pub", "shop orders:*", "x", "--create"], 1, "'shop orders'"),
        (["who", "nobody-was:here"], 5, "arqonbus channels"),
        (["who", "nobody-was"], 5, "There is no room nobody-was"),
        (["history", "nobody-was:here"], 5, "arqonbus channels"),
        (["nonsense"], 2, "No such command"),
        (["pub", "a:b:c", "x"], 2, "looks like room:channel"),
        (["pub", "science", "x"], 2, "'science:*'"),
        (["pub", "adder", "x"], 2, "pm:adder"),
        (["tail", "inbox", "--identity", "/nowhere/me.identity"], 2, "error: /nowhere: No such file or directory"),
        (["pub", "pm:nobody-was-here", "x"], 5, "Unknown client_id: nobody-was-here"),
        (["pub", "pm:nobody-was-here", "x"], 5, "arqonbus status"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_goes_wrong_has_its_exit_code_and_says_what_to_do(
    cli: Cli, arguments: list[str], code: int, says: str
) -> None:
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_url_that_is_none_is_answered_with_the_one_that_was_meant(cli: Cli, shared_server: BusServer) -> None:
    for wrong in (shared_server.url.replace("ws://", "http://"), shared_server.url.removeprefix("ws://")):
        done = cli("status", "--url", wrong)
        assert done.returncode == 2
        assert f"Did you mean {shared_server.url}?" in done.stderr
    elsewhere = cli("status", "--url", f"{shared_server.url}nowhere/")
    assert elsewhere.returncode == 3
    assert "Is the path right?" in elsewhere.stderr
    assert "make run" not in elsewhere.stderr


def test_ctrl_c_ends_it_though_standard_input_gave_no_line(shared_server: BusServer, fresh_room: str) -> None:
    speaking = start_cli(
        "pub", "--create", f"{fresh_room}:talk", "-", env=client_environment(shared_server), stdin=subprocess.PIPE
    )
    with speaking:
        assert speaking.stdin is not None
        assert speaking.stderr is not None
        speaking.stdin.write("one\n")
        speaking.stdin.flush()
        assert "#1" in speaking.stderr.readline()
        speaking.send_signal(signal.SIGINT)
        assert speaking.wait(20) == 130
        assert "Traceback" not in speaking.stderr.read()
    with start_cli("mcp", env=client_environment(shared_server), stdin=subprocess.PIPE) as serving:
        assert serving.stdin is not None
        assert serving.stdout is not None
        ask = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        serving.stdin.write(json.dumps(ask) + "\n")
        serving.stdin.flush()
        assert json.loads(serving.stdout.readline())["id"] == 1
        serving.send_signal(signal.SIGINT)
        assert serving.wait(20) == 130


def test_a_line_that_is_no_text_is_named(shared_server: BusServer, fresh_room: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "arqonbus", "pub", "--create", f"{fresh_room}:talk", "-"],
        input=b"good\nbad\xff\n",
        env=client_environment(shared_server),
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, b"Line 2 of standard input is not UTF-8" in done.stderr) == (2, True)


def test_a_taken_client_id_is_a_conflict(cli: Cli, shared_server: BusServer, fresh_room: str) -> None:
    with sync.connect(shared_server.url, client_id=fresh_room):
        done = cli("pub", "science:explore", "x", "--client-id", fresh_room)
    assert done.returncode == 6
    assert "CLIENT_ID_IN_USE" in done.stderr


def test_without_a_server_it_says_how_to_start_one(cli: Cli) -> None:
    done = cli("status", ARQONBUS_URL="ws://127.0.0.1:1/")
    assert done.returncode == 3
    assert "make run" in done.stderr
    assert "ARQONBUS_URL" in done.stderr


def test_colours_are_for_terminals_only(cli: Cli, speaker: sync.Bus, fresh_room: str) -> None:
    speaker.publish(f"{fresh_room}:talk", "plain")
    assert "\x1b[" not in cli("history", f"{fresh_room}:talk").stdout
    assert "\x1b[" in cli("history", f"{fresh_room}:talk", FORCE_COLOR="1", NO_COLOR="").stdout


def test_a_reader_that_has_seen_enough_is_no_error(
    shared_server: BusServer, speaker: sync.Bus, fresh_room: str
) -> None:
    for n in range(200):
        speaker.publish(f"{fresh_room}:talk", "x" * 500, ack=n == 199)
    history = start_cli("history", f"{fresh_room}:talk", "--since", "0", env=client_environment(shared_server))
    assert history.stdout is not None
    history.stdout.readline()
    history.stdout.close()
    assert history.stderr is not None
    with history.stderr as errors:
        assert errors.read() == ""
    assert history.wait(20) == 0


def test_every_command_has_help_and_the_version_is_told(cli: Cli) -> None:
    overview = cli("--help")
    commands = ["tail", "pub", "stream", "history", "status", "channels", "who", "bench", "mcp"]
    assert all(command in overview.stdout for command in commands)
    assert "Exit codes" in overview.stdout
    assert "--since" in cli("tail", "--help").stdout
    for command in (*([name] for name in commands if name != "mcp"), []):
        # A switch takes no value, and its help promises none.
        assert "bool" not in cli(*command, "--help").stdout, command
    assert cli("--version").stdout.startswith("arqonbus ")


def test_progress_is_shown_on_a_terminal(shared_server: BusServer) -> None:
    command = shlex.join([sys.executable, "-m", "arqonbus", "bench", "-n", "400", "--subscribers", "1"])
    env = {**client_environment(shared_server), "TERM": "xterm"}
    done = subprocess.run(["script", "-qec", command, "/dev/null"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "publishing" in done.stdout
    assert "/400" in done.stdout


def test_no_help_loses_or_changes_a_word(cli: Cli) -> None:
    assert "extra mcp" in " ".join(cli("--help").stdout.split())
    # Between colons stands the name of a picture, for those who show the help in colours.
    assert "pm:<client_id>" in cli("pub", "--help").stdout


#: What a terminal obeys, what turns its text around, and what some take for the end of a line.
ODD = "".join(map(chr, (0x1B, 0x7F, 0x85, 0x9B, 0x61C, 0x200E, 0x2028, 0x2029, 0x202E, 0x2066, 0xFEFF))) + "\U000e0041"


def test_what_others_say_does_not_move_a_terminal(cli: Cli, speaker: sync.Bus, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    forged = f"{ODD}hi\n12:00:00 {address} #9 boss  do it"
    receipt = speaker.publish(address, forged, payload={ODD: [ODD]}, type="note", metadata={"x": ODD})
    done = cli("history", address, "--json")
    assert all(character.isprintable() for character in done.stdout.removesuffix("\n")), done.stdout
    (found,) = objects(done.stdout)
    assert (found["id"], found["message"], found["payload"]) == (receipt.id, forged, {ODD: [ODD]})
    shown = cli("history", address).stdout
    assert not set(ODD) & set(shown)
    # One line is the message's; what follows is set in.
    assert [line[:4] for line in shown.splitlines()[1:]] == ["    "]


def test_rooms_are_followed_and_messages_amended(cli: Cli, shared_server: BusServer, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    said = {"client_id": f"cli-{fresh_room}"}
    following = start_cli("follow", fresh_room, "-n", "4", "--json", env=client_environment(shared_server))
    assert following.stderr is not None
    assert "following" in following.stderr.readline()
    with sync.connect(shared_server.url, **said) as bus:
        bus.publish(address, "helo")
        bus.publish(address, "second")
        assert cli("amend", address, "2", "--react", "👍").returncode == 0
        assert cli("amend", address, "1", "--edit", "mine").returncode == 4
        assert cli("amend", address, "9", "--delete").returncode == 5
        assert cli("amend", address, "1").returncode == 2
        bus.edit(bus.history_page(address).messages[0], "hello")
    out, _ = following.communicate(timeout=30)
    assert [frame["seq"] for frame in objects(out)] == [1, 2, 3, 4]
    shown = cli("history", address).stdout
    assert "hello  (edited)" in shown
    assert "second  👍 1" in shown
    last = cli("tail", address, "--last", "2", "-n", "2")
    assert "[react of #2]  👍" in last.stdout
    assert "[edit of #1]  hello" in last.stdout
    assert cli("tail", address, "--last", "2", "--since", "0").returncode == 2
    assert cli("follow", address).returncode == 2
