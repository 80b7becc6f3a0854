"""The tools of workers. The claims of an agent end with their lease, because no connection shows that it is still there."""

from __future__ import annotations

from typing import Any

import msgspec

from ..api.waiting import Waiter
from ..services import working
from ..shapes import Claims
from . import arguments
from .caller import Caller, Later, Result, shown


def claim(caller: Caller, given: arguments.Claim) -> Later:
    """Claim jobs, or wait for one."""
    address, worker = caller.address(given.address), working.worker_of(caller.actor)
    have = None if given.have is None else tuple(given.have)
    empty: list[Claims] = []

    def look() -> Result | None:
        nonlocal have
        # It counts once. Later the caller may have got jobs by another call.
        known, have = have, None
        found = working.claim_jobs(address, most=given.max, have=known, actor=caller.actor)
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
    return _answer(working.renew_claim(given.claim, actor=caller.actor))


def done(caller: Caller, given: arguments.Done) -> Result:
    """End a job as done."""
    return _answer(working.finish_job(given.claim, given.result, actor=caller.actor))


def release(caller: Caller, given: arguments.Release) -> Result:
    """Give a job back."""
    return _answer(working.release_job(given.claim, delay=given.delay, error=given.error, actor=caller.actor))


def reject(caller: Caller, given: arguments.Reject) -> Result:
    """Declare a job dead."""
    return _answer(working.reject_job(given.claim, error=given.error, actor=caller.actor))


def _answer(answer: Any) -> Result:
    told: Result = msgspec.to_builtins(answer, enc_hook=str)
    return told
