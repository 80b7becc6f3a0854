"""What members are told of jobs."""

from __future__ import annotations

import json

import pytest

from bus.node.jobs.notices import LISTED, Gathering, notice
from bus.notify.messages import WorkChange
from bus.protocol.names import Address

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(("named", "by"), [(True, "ada"), (False, None)])
def test_a_notice_lists_some_changes_and_counts_all(named: bool, by: str | None) -> None:
    gathered = Gathering()
    for seq in range(1, LISTED + 11):
        gathered.add(WorkChange(7, "claimed" if seq % 2 else "done", seq, 1, "ada", "2026-01-01T00:00:00.000Z"))
    frame = json.loads(notice(Address("lab", "jobs"), gathered, named=named))
    assert (frame["room"], frame["channel"], frame["payload"]["event"]) == ("lab", "jobs", "work")
    assert frame["payload"]["counts"] == {"claimed": 30, "done": 30}
    assert len(frame["payload"]["changes"]) == LISTED
    first = {"what": "claimed", "seq": 1, "attempt": 1, "by": by, "at": "2026-01-01T00:00:00.000Z"}
    assert frame["payload"]["changes"][0] == first
