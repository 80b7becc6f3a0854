"""The JavaScript client's identity: the same client after its process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from arqonbus import sync
from tests.harness.server import BusServer

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]


def test_a_worker_without_a_token_has_its_letters_again_after_it_was_killed(
    node: Run, shared_server: BusServer, fresh_room: str, tmp_path: Path
) -> None:
    worker, file = f"worker-{fresh_room}", str(tmp_path / "identity")
    first = node("worker", shared_server, clientId=worker, file=file, jobs=2, stay=True)
    assert first.expect("ready")["kept"] is True
    with sync.connect(shared_server.url) as asker:
        asker.private(worker, "1")
        asker.private(worker, "2")
        first.expect("job")
        done = first.expect("job")
        first.kill()
        for number in range(3, 6):
            asker.private(worker, str(number))
        second = node("worker", shared_server, file=file, jobs=4, since=done["place"])
        assert second.expect("ready")["clientId"] == worker
        asker.private(worker, "6")
        jobs = [second.expect("job") for _ in range(4)]
    assert [job["text"] for job in jobs] == ["3", "4", "5", "6"]
    assert not any(job["afterGap"] or job["gaps"] for job in jobs)
    second.finish()


def test_a_worker_that_cannot_prove_who_it_was_is_told_what_it_lost(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    worker = f"worker-{fresh_room}"
    first = node("worker", shared_server, clientId=worker, jobs=2, stay=True)
    assert first.expect("ready")["kept"] is None
    with sync.connect(shared_server.url) as asker:
        asker.private(worker, "1")
        asker.private(worker, "2")
        first.expect("job")
        done = first.expect("job")
        asker.private(worker, "3")
        first.kill()
        second = node("worker", shared_server, clientId=worker, jobs=1, since=done["place"])
        second.expect("ready")
        asker.private(worker, "4")
        job = second.expect("job")
    assert (job["text"], job["afterGap"], job["gaps"]) == ("4", True, 1)
    second.finish()


def test_the_proof_can_be_brought_by_hand_and_what_is_no_identity_is_refused(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    run = node("proof", shared_server, clientId=f"me-{fresh_room}")
    said = run.expect("proof")
    assert said["over"] == 4410
    assert said["same"] is True
    wanted = [
        "ClosedByServer: 4409",
        "TypeError: A `resumeToken` needs the `clientId`",
        "TypeError: A `resumeToken` needs the `clientId`",
        "TypeError: An identity is a name",
        "TypeError: An identity is a name",
        "ConnectionFailed: The identity's store contains something that is not an identity.",
        "ConnectionFailed: The identity's store contains something that is not an identity.",
        "ConnectionFailed: This is the identity of else, not of somebody.",
    ]
    for refusal, beginning in zip(said["refusals"], wanted, strict=True):
        assert refusal.startswith(beginning)
    assert said["made_up"] == "me-"
    assert said["memory"] is False
    run.finish()
    assert "no storage is available" in run.errors
