"""How many control frames and fragments a client may send, and how much of an unfinished message it may leave."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from bus.realtime import frame_limits
from bus.realtime.frame_limits import (
    BURST,
    FLOOD,
    FRAGMENTS,
    OWN_BYTES,
    UNFINISHED,
    UNREGISTERED_BURST,
    FragmentBudget,
    FrameLimits,
)

pytestmark = pytest.mark.pure


@pytest.fixture(autouse=True)
def _frozen_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second passes, so that only the bursts count."""
    monkeypatch.setattr(frame_limits, "time", SimpleNamespace(monotonic=lambda: 1000.0))


def pings_until_flood(limits: FrameLimits) -> int:
    """How many pings pass."""
    passed = 0
    while not limits.count(fragment=False, final=True):
        passed += 1
    return passed


@pytest.mark.parametrize(("registered", "burst"), [(True, BURST), (False, UNREGISTERED_BURST)])
def test_a_burst_of_pings_is_bounded(registered: bool, burst: float) -> None:
    limits = FrameLimits(lambda: registered, None)
    assert pings_until_flood(limits) == burst
    assert limits.count(fragment=False, final=True) == FLOOD


def test_a_client_that_registers_gets_the_larger_burst_whoever_is_asked_then() -> None:
    answers = [False]
    limits = FrameLimits(lambda: False, None)
    limits.ask_registered(lambda: answers[-1])
    for _ in range(int(UNREGISTERED_BURST)):
        assert limits.count(fragment=False, final=True) == ""
    answers.append(True)
    assert pings_until_flood(limits) == BURST


def test_one_message_has_so_many_fragments_and_the_last_one_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = iter(range(1_000_000))
    monkeypatch.setattr(frame_limits, "time", SimpleNamespace(monotonic=lambda: float(next(moment))))
    limits = FrameLimits(lambda: True, None)
    for _ in range(2):
        for _ in range(FRAGMENTS):
            assert limits.count(fragment=True, final=False) == ""
        assert limits.count(fragment=True, final=True) == ""
    for _ in range(FRAGMENTS):
        limits.count(fragment=True, final=False)
    assert limits.count(fragment=True, final=False) == FLOOD


def unfinished(budget: FragmentBudget, is_registered: Callable[[], bool] = lambda: False) -> FrameLimits:
    """A connection with 1000 bytes more than its own part waiting."""
    limits = FrameLimits(is_registered, budget)
    assert limits.hold(OWN_BYTES) == ""
    assert limits.hold(1000) == ""
    return limits


def test_the_unfinished_messages_of_all_unregistered_clients_share_a_budget() -> None:
    budget = FragmentBudget(2500)
    first, second = unfinished(budget), unfinished(budget)
    assert budget.left == 500
    assert first.hold(501) == UNFINISHED
    assert budget.left == 500, "what does not fit is not reserved"
    second.message_ended()
    assert budget.left == 1500
    assert first.hold(999) == ""
    first.message_ended()
    first.message_ended()
    assert budget.left == 2500, "it is returned once"


def test_who_registers_returns_what_it_reserved_and_has_no_budget_any_more() -> None:
    budget, answers = FragmentBudget(1000), [False]
    limits = unfinished(budget, lambda: answers[-1])
    answers.append(True)
    assert limits.hold(1 << 20) == ""
    assert budget.left == 1000
