"""Leased work: the rule of a work channel, claims, and the jobs that a channel has."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw

from .base import Seq, Shape, WireTime

#: Bounds of a rule, in seconds and attempts.
LONGEST_LEASE, LONGEST_HOLD, MOST_ATTEMPTS = 86400.0, 604800.0, 1000


class WorkRule(Shape, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rule of a work channel, which hands each of its messages to one worker."""

    lease: Annotated[
        float, Meta(ge=1, le=LONGEST_LEASE, description="Seconds for which a claim is valid without a renewal.")
    ] = 30.0
    attempts: Annotated[
        int, Meta(ge=1, le=MOST_ATTEMPTS, description="Claims of one job after which it is dead instead of out again.")
    ] = 5
    hold: Annotated[
        float,
        Meta(
            ge=1,
            le=LONGEST_HOLD,
            description="Seconds after which a claim ends even if it is renewed; at least `lease`.",
        ),
    ] = 3600.0
    dead: Annotated[
        str | None,
        Meta(description="Another channel, as `room:channel`, which gets a message for each dead job; null: none."),
    ] = None


class Claim(Shape, frozen=True, kw_only=True):
    """A job that a worker has."""

    claim: Annotated[
        str, Meta(description="Names this claim in `renew`, `done`, `release` and `reject`. Keep it secret.")
    ]
    attempt: Annotated[int, Meta(ge=1, description="The number of this claim of the job.")]
    lease: Annotated[float, Meta(description="Seconds for which the claim is valid without a renewal.")]
    hold: Annotated[float, Meta(description="Seconds after which the claim ends even if it is renewed.")]
    message: Annotated[Raw, Meta(description="The message, as it was delivered.", extra_json_schema={"type": "object"})]


class Claims(Shape, frozen=True, kw_only=True):
    """The jobs that a worker got."""

    claims: list[Claim]
    ready: Annotated[int, Meta(ge=0, description="Number of jobs that are still ready; counted up to 1000.")]


class Renewed(Shape, frozen=True, kw_only=True):
    """A claim with a new lease."""

    claim: str
    lease: Annotated[float, Meta(description="Seconds from now for which the claim is valid.")]


class Finished(Shape, frozen=True, kw_only=True):
    """A job that was done."""

    claim: str
    seq: Seq
    state: Literal["done"] = "done"
    replied: Annotated[bool, Meta(description="Somebody asked with this job, and got the result as the reply.")] = False


class Returned(Shape, frozen=True, kw_only=True):
    """A job that its worker gave back."""

    claim: str
    seq: Seq
    state: Annotated[Literal["ready", "dead"], Meta(description="`dead` after the last attempt, or after a rejection.")]


class JobState(Shape, frozen=True, kw_only=True):
    """A job after an operator's request."""

    seq: Seq
    state: Annotated[str, Meta(pattern="^(ready|claimed|done|dead|discarded)$")]


class ClaimedJob(Shape, frozen=True, kw_only=True):
    """A job that a worker has, as observers see it."""

    seq: Seq
    by: Annotated[str | None, Meta(description="The worker; null without the right `presence`.")]
    attempt: int
    since: WireTime
    lease_until: WireTime


class Failure(Shape, frozen=True, kw_only=True):
    """One failure of a job."""

    attempt: int
    by: str | None
    error: str
    at: WireTime
    why: Annotated[str, Meta(pattern="^(released|expired|rejected)$")]


class DeadJob(Shape, frozen=True, kw_only=True):
    """A job that nobody gets any more."""

    seq: Seq
    attempts: int
    errors: Annotated[list[Failure], Meta(description="The newest failure, its error cut to 500 characters.")]
    at: WireTime


class WorkOverview(Shape, frozen=True, kw_only=True):
    """What a work channel has to do, and who does it."""

    room: str
    channel: str
    work: WorkRule
    ready: Annotated[int, Meta(description="Number of jobs that a worker gets now.")]
    delayed: Annotated[int, Meta(description="Number of jobs that are due later.")]
    claimed: Annotated[list[ClaimedJob], Meta(description="The oldest claims, at most 100.")]
    claimed_count: int
    oldest: Annotated[WireTime | None, Meta(description="Since when the oldest ready job is due; null: there is none.")]
    dead: Annotated[list[DeadJob], Meta(description="The oldest dead jobs, at most 100.")]
    dead_count: int
    manage: Annotated[bool, Meta(description="Whether you may retry and discard jobs.")]
