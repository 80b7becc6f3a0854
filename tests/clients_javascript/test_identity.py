"""The JavaScript client's identity: the same client after its process was killed."""

from __future__ import annotations

import pytest

from tests.harness.server import BusServer

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]


def test_the_proof_can_be_brought_by_hand_and_what_is_no_identity_is_refused(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    run = node("proof", shared_server, clientId=f"me-{fresh_room}")
    said = run.expect("proof")
    assert said["over"] == 4410
    assert said["same"] is True
    wanted = [
        "ClosedByServer: 4409",
        "TypeError: A resumeToken proves a clientId",
        "TypeError: A resumeToken proves a clientId",
        "TypeError: An identity is a name",
        "TypeError: An identity is a name",
        "ConnectionFailed: The identity's store holds something else",
        "ConnectionFailed: The identity's store holds something else",
        "ConnectionFailed: This is the identity of else, not of somebody.",
    ]
    for refusal, beginning in zip(said["refusals"], wanted, strict=True):
        assert refusal.startswith(beginning)
    assert said["made_up"] == "me-"
    assert said["memory"] is False
    run.finish()
    assert "keeps nothing for the page" in run.errors
