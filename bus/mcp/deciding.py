"""The tools of decisions: ask people, wait, use the answer, withdraw the question, and decide for others."""

from __future__ import annotations

from typing import Any

import msgspec

from .. import shapes
from ..api.waiting import Waiter
from ..services import decision_lists, decision_requests
from ..services import decisions as service
from ..services.decision_rows import PENDING
from ..services.questions import bounded
from . import arguments
from .caller import Caller, Later, Result

#: The name of the tools in the audit log.
DOOR = "mcp"


def request_decision(caller: Caller, given: arguments.RequestDecision) -> Later:
    """Ask people, and wait for the answer."""
    asked = decision_requests.request_decision(
        caller.address(given.address),
        key=given.key,
        title=given.title,
        action=given.action,
        args=given.args,
        allow=given.allow,
        schema=given.schema,
        expires=given.expires,
        on_expiry=given.on_expiry,
        actor=caller.actor,
        door=DOOR,
    )
    return _ended(caller, asked.decision, given.timeout_seconds)


def await_decision(caller: Caller, given: arguments.AwaitDecision) -> Later:
    """Wait for the end of a decision."""
    return _ended(caller, given.decision, given.timeout_seconds)


def _ended(caller: Caller, uid: str, seconds: float) -> Later:
    def look() -> Result | None:
        found = service.decision(uid, actor=caller.actor)
        return None if found.state == PENDING else _told(found)

    async def wait(waiter: Waiter, seconds: float) -> Result | None:
        return _told(await waiter.node.decisions.wait(caller.actor, uid, seconds))

    return Later(seconds, look, wait, lambda: _told(service.decision(uid, actor=caller.actor)))


def consume_decision(caller: Caller, given: arguments.OneDecision) -> Result:
    """Use the answer, once."""
    return _told(service.consume_decision(given.decision, actor=caller.actor, door=DOOR))


def cancel_decision(caller: Caller, given: arguments.OneDecision) -> Result:
    """Withdraw a question."""
    return _told(service.cancel_decision(given.decision, actor=caller.actor, door=DOOR))


def list_decisions(caller: Caller, given: arguments.ListDecisions) -> Result:
    """A page of decisions."""
    place = None if given.address is None else caller.address(given.address)
    wanted = decision_lists.Wanted(place, given.state, given.mine, given.to_decide)
    rows, more = bounded(
        lambda: decision_lists.list_decisions(caller.actor, wanted, limit=given.limit, after=given.after or "")
    )
    return {"decisions": [_told(row) for row in rows], "next": more}


def decide(caller: Caller, given: arguments.Decide) -> Result:
    """Decide for somebody else."""
    made = service.decide(
        given.decision, given.answer, args=given.args, comment=given.comment, actor=caller.actor, door=DOOR
    )
    return _told(made)


def _told(found: shapes.Decision) -> Result:
    told: Any = msgspec.to_builtins(found)
    return dict(told)
