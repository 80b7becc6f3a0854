"""Messages that grow, in the JavaScript client: owners and readers, over broken lines and restarts."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.harness.server import BusServer

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]

WHOLE = {"state": "complete", "grew": True, "pieces": True}


def test_an_answer_is_one_message_for_old_and_late_readers_and_in_the_history(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    owner, run = f"owner-{fresh_room}", f"run-{fresh_room}"
    said = node("answer", shared_server, address=f"{fresh_room}:42", clientId=owner, run=run).expect("answer")
    of = f"arq_{run}"
    assert said["of"] == of
    assert said["whole"]
    assert said["rolled"]
    assert said["read"].items() >= {**WHOLE, "late": False}.items()
    assert said["payload"] == {"role": "assistant"}
    begins, late_id, sender, late = said["late"]
    assert begins
    assert [late_id, sender] == [of, owner]
    assert late.items() >= {**WHOLE, "late": True}.items()
    assert said["open"] == [of, "open", True, {"role": "assistant"}]
    assert said["grown"]
    assert said["end"] == ["complete", 2, False]
    assert said["silent"] == [True, "complete"]
    assert said["history"] == [[of, True, "complete", {"usage": {"out": 100}}]]
    assert said["raw"] == ["event", "stream_end"]
    assert said["next"] == ["behind it"] * 3


def test_a_list_of_parts_grows_in_an_inbox(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    said = node("parts", shared_server, address=f"{fresh_room}:parts").expect("parts")
    assert said["heard"] == list(range(1, 21))
    assert said["have"] == 20
    assert said["private"]
    assert said["mode"] == "parts"
    assert said["state"] == "aborted"


def test_an_answer_is_whole_although_the_lines_of_owner_and_reader_are_cut(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    run = node("breaks", shared_server, address=f"{fresh_room}:cut", clientId=f"cut-{fresh_room}", cuts=6)
    said = run.expect("broken", deadline=60)
    assert said["equal"]
    assert said["read"].items() >= WHOLE.items()
    assert min(said["connections"]) > 2


def test_an_answer_is_whole_although_the_server_is_killed_in_the_middle(
    node: Run, start_server: StartServer, fresh_room: str
) -> None:
    server = start_server()
    run = node("restarted", server, address=f"{fresh_room}:killed", clientId=f"killed-{fresh_room}")
    run.expect("underway")
    server.restart()
    run.tell("enough")
    said = run.expect("survived", deadline=60)
    assert said["equal"]
    assert said["read"].items() >= WHOLE.items()
    assert said["connections"] == [2, 2]


def test_a_reader_without_parts_gets_none_also_after_a_break(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    said = node("quiet", shared_server, address=f"{fresh_room}:quiet").expect("quiet")
    assert said == {"event": "quiet", "state": "complete", "text": "all of it", "parts": 0}


def test_much_text_at_once_is_kept_up_to_the_limit_and_a_run_is_that_of_one_channel(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    run = f"large-{fresh_room}"
    started = node("large", shared_server, address=f"{fresh_room}:large", other=f"{fresh_room}:other", run=run)
    said = started.expect("large", deadline=60)
    assert said["whole"]
    assert said["codes"] == ["FRAME_TOO_LARGE"] * 2
    assert "262144" in said["reason"]
    assert "ARQONBUS_FRAME_BYTES" in said["reason"]
    # All of it but the fields around it.
    assert all(256 * 1024 - 2048 < size <= 256 * 1024 for size in said["bytes"])
    assert said["begins"] == [True, True]
    assert said["elsewhere"] == (
        f"The run '{run}' names a message of another channel. A run is unique on the whole bus."
    )
    assert said["attempt"] == 2


def test_a_stop_reaches_the_owner_and_its_model(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    said = node("stopped", shared_server, address=f"{fresh_room}:stop").expect("stopped")
    assert said == {
        "event": "stopped",
        "stopping": True,
        "aborted": True,
        "end": "stopped",
        "read": "stopped",
        "equal": True,
    }


def test_a_steer_is_taken_or_untaken_or_too_late(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    said = node("steered", shared_server, address=f"{fresh_room}:steer").expect("steered")
    assert said["first"] == [True, "shorter", True]
    assert said["second"]
    assert said["untaken"]
    assert said["late"] == [False, True]


def test_an_adopted_answer_is_that_of_its_new_owner(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    token = shared_server.create_token(f"agent-{fresh_room}")
    said = node("adopted", shared_server, address=f"{fresh_room}:adopt", token=token).expect("adopted")
    assert said == {
        "event": "adopted",
        "before": "dead text",
        "reset": True,
        "lost": "STREAM_LOST",
        "aborted": True,
        "attempt": 2,
        "text": "alive",
        "again": "alive",
    }
