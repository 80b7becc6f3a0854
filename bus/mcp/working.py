"""The tools of workers. The claims of an agent end with their lease, because no connection shows that it is still there."""

from __future__ import annotations

from typing import Any

import msgspec

from ..api.waiting import Waiter
from ..auth.permissions import JOIN, PUBLISH, require
from ..directory.channels import ensure
from ..services import work
from ..services.work import Worker
from ..shapes import Claims
from . import arguments
from .caller import Caller, Later, Result, shown


def claim(caller: Caller, given: arguments.Claim) -> Later:
    """Claim jobs, or wait for one."""
    address, actor, worker = caller.address(given.address), caller.actor, _worker(caller)
    have = None if given.have is None else tuple(given.have)
    empty: list[Claims] = []

    def look() -> Result | None:
        ref, _ = ensure(address, actor, create=False, action=JOIN)
        for action in (JOIN, PUBLISH):
            require(actor, action, address, private=ref.private)
        if ref.work is None:
            raise work.no_work(address)
        found: Claims = work.carry_out(work.Claim(ref, given.max, worker, have))
        if not found.claims:
            empty[:] = [found]
        return _told(found) if found.claims else None

    async def wait(waiter: Waiter, seconds: float) -> Result | None:
        found = await waiter.node.work.claim(waiter.client, address, given.max, seconds, worker=worker)
        return _told(found)

    return Later(given.timeout_seconds, look, wait, lambda: _told(empty[0]) if empty else {"claims": [], "ready": 0})


def _told(found: Claims) -> Result:
    claims = [
        {
            "claim": one.claim,
            "attempt": one.attempt,
            "lease": one.lease,
            "hold": one.hold,
            "message": shown(bytes(one.message)),
        }
        for one in found.claims
    ]
    return {"claims": claims, "ready": found.ready}


def renew(caller: Caller, given: arguments.Renew) -> Result:
    """Begin a lease anew."""
    return _answer(work.carry_out(work.Renew(given.claim, _worker(caller))))


def done(caller: Caller, given: arguments.Done) -> Result:
    """End a job as done."""
    result = None if given.result is None else msgspec.json.encode(given.result)
    return _answer(work.carry_out(work.Done(given.claim, result, _worker(caller))))


def release(caller: Caller, given: arguments.Release) -> Result:
    """Give a job back."""
    return _answer(work.carry_out(work.Release(given.claim, given.delay, given.error, _worker(caller))))


def reject(caller: Caller, given: arguments.Reject) -> Result:
    """Declare a job dead."""
    return _answer(work.carry_out(work.Reject(given.claim, given.error, _worker(caller))))


def _worker(caller: Caller) -> Worker:
    return Worker(caller.actor.client_id, caller.actor.principal, rest=True)


def _answer(answer: Any) -> Result:
    told: Result = msgspec.to_builtins(answer, enc_hook=str)
    return told
