"""Leased work for callers without a socket: REST, MCP and Django code. They renew their leases themselves.

Inside a transaction, claims and their ends become part of it: after a rollback nothing happened.
"""

from __future__ import annotations

from typing import Any, cast

from asgiref.sync import sync_to_async

from .. import shapes
from ..auth.permissions import JOIN, PUBLISH, SYSTEM, Actor, checked, require
from ..directory.channels import find
from ..protocol.errors import BusError
from ..protocol.names import Address
from ..protocol.routing import channel_not_found
from ..publishing.django import address_of, encoded
from ..publishing.plan import sender_of
from .work import Claim, Done, Operation, Reject, Release, Renew, Worker, announce_work, apply, no_work


def claim_jobs(
    address: str | Address, *, most: int = 1, have: tuple[str, ...] | None = None, actor: Actor = SYSTEM
) -> shapes.Claims:
    """Claim up to ``most`` ready jobs of a work channel for ``actor``. Without one, ``claims`` of the result is empty.

    ``have`` are the claims that the actor knows. With it, its other jobs there come first: the answers that had them were lost.

    Raises ``BusError`` INVALID_NAME, CHANNEL_NOT_FOUND, FORBIDDEN without the rights to join and to publish, VALIDATION_ERROR
    for a channel without work, LIMIT_REACHED or UNAVAILABLE.
    """
    place = address_of(address)
    ref = find(place)
    for right in (JOIN, PUBLISH):
        require(checked(actor), right, place, private=bool(ref and ref.private))
    if ref is None:
        raise channel_not_found(place)
    if ref.work is None:
        raise no_work(place)
    return cast(shapes.Claims, carry_out(Claim(ref, most, worker_of(actor), have)))


def renew_claim(claim: str, *, actor: Actor = SYSTEM) -> shapes.Renewed:
    """Begin the lease of a claim anew. Raises ``BusError`` CLAIM_NOT_FOUND, CLAIM_LOST or UNAVAILABLE."""
    return cast(shapes.Renewed, carry_out(Renew(claim, worker_of(actor))))


def finish_job(claim: str, result: Any = None, *, actor: Actor = SYSTEM) -> shapes.Finished:
    """End a job as done. ``result`` is any JSON value; it is the reply where somebody asked with the job.

    A repeated call has the answer of the first. Raises ``BusError`` as :func:`renew_claim`, and VALIDATION_ERROR or
    FRAME_TOO_LARGE for a wrong result.
    """
    raw = None if result is None else encoded(result, "result")
    return cast(shapes.Finished, carry_out(Done(claim, raw, worker_of(actor))))


def release_job(claim: str, *, delay: float = 0.0, error: str | None = None, actor: Actor = SYSTEM) -> shapes.Returned:
    """Give a job back. It is ready again after ``delay`` seconds, or dead after its last attempt. ``error`` says why.

    Raises ``BusError`` as :func:`renew_claim`.
    """
    return cast(shapes.Returned, carry_out(Release(claim, delay, error, worker_of(actor))))


def reject_job(claim: str, *, error: str | None = None, actor: Actor = SYSTEM) -> shapes.Returned:
    """Declare a job dead: no other worker gets it. ``error`` says why. Raises ``BusError`` as :func:`renew_claim`."""
    return cast(shapes.Returned, carry_out(Reject(claim, error, worker_of(actor))))


def worker_of(actor: Actor) -> Worker:
    """Return the worker that ``actor`` is without a socket. Raises ``BusError`` VALIDATION_ERROR for one without a client id."""
    return Worker(sender_of(checked(actor)), actor.principal, rest=True)


def carry_out(operation: Operation) -> Any:
    """Carry out one operation, tell of it, and return its answer. Raises its ``BusError``."""
    outcome = apply([operation])
    announce_work(outcome)
    (answer,) = outcome.answers
    if isinstance(answer, BusError):
        raise answer
    return answer


aclaim_jobs = sync_to_async(claim_jobs, thread_sensitive=True)
arenew_claim = sync_to_async(renew_claim, thread_sensitive=True)
afinish_job = sync_to_async(finish_job, thread_sensitive=True)
arelease_job = sync_to_async(release_job, thread_sensitive=True)
areject_job = sync_to_async(reject_job, thread_sensitive=True)
