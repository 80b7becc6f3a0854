"""The commands for leased work: claim jobs, renew and end claims, and look after the queue."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .. import shapes
from ..protocol.errors import BusError, ErrorCode
from ..services import work as service
from ..services.work import Done, Operation, Reject, Release, Renew, Worker
from ..services.work_operations import LONGEST_ERROR, LONGEST_TOKEN, MOST_JOBS, MOST_KNOWN
from .base import LOOK, Answer, Context, Parameters, command
from .channels import ChannelParameters, target

#: The longest that a claim waits, in seconds.
LONGEST_WAIT = 25.0


class ClaimParameters(ChannelParameters):
    """Parameters of ``claim``."""

    max: Annotated[int, Meta(ge=1, le=MOST_JOBS, description="Maximum number of jobs.")] = 1
    wait: Annotated[
        float, Meta(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the first job when none is ready.")
    ] = 0.0
    have: Annotated[
        Annotated[list[Annotated[str, Meta(max_length=LONGEST_TOKEN)]], Meta(max_length=MOST_KNOWN)] | None,
        Meta(
            description="After a reconnect: the claims that you know. Others of yours in this channel are answered again."
        ),
    ] = None


@command(
    "claim",
    ClaimParameters,
    shapes.Claims,
    errors=(ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.LIMIT_REACHED, ErrorCode.BUSY),
    beside=True,
)
async def claim(context: Context, parameters: ClaimParameters) -> Answer:
    """Get jobs of a work channel, each for yourself alone. This needs the rights to join and to publish there."""
    address = target(context, parameters)
    have = None if parameters.have is None else tuple(parameters.have)
    claimed: shapes.Claims = await context.process.claim(address, parameters.max, parameters.wait, have)
    return Answer(f"{len(claimed.claims)} jobs of {address}", claimed)


class TokenParameters(Parameters):
    """A claim."""

    claim: Annotated[str, Meta(max_length=LONGEST_TOKEN, description="The claim, as `claim` answered it.")] = ""

    def named(self) -> str:
        """The claim. Raises ``BusError`` VALIDATION_ERROR without one."""
        if not self.claim:
            message = "`claim` is missing."
            raise BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "claim", "message": message}])
        return self.claim


class RenewParameters(TokenParameters):
    """Parameters of ``renew``."""


class DoneParameters(TokenParameters):
    """Parameters of ``done``."""

    result: Annotated[Any, Meta(description="Your result, any JSON. It is the reply where somebody asked.")] = None


class RejectParameters(TokenParameters):
    """Parameters of ``reject``."""

    error: Annotated[
        Annotated[str, Meta(max_length=LONGEST_ERROR)] | None, Meta(description="Why nobody can do the job.")
    ] = None


class ReleaseParameters(TokenParameters):
    """Parameters of ``release``."""

    delay: Annotated[
        float, Meta(ge=0, le=service.LONGEST_DELAY, description="Seconds until another worker may get the job.")
    ] = 0.0
    error: Annotated[
        Annotated[str, Meta(max_length=LONGEST_ERROR)] | None, Meta(description="Why you did not do the job.")
    ] = None


#: The errors of every command that names a claim.
ENDS = (ErrorCode.CLAIM_NOT_FOUND, ErrorCode.CLAIM_LOST, ErrorCode.BUSY)


@command("renew", RenewParameters, shapes.Renewed, errors=ENDS, beside=True)
async def renew(context: Context, parameters: RenewParameters) -> Answer:
    """Begin the lease of your claim anew. The server does so itself while your connection lives."""
    return await _answer(context, Renew(parameters.named(), _worker(context)), "Renewed")


@command("done", DoneParameters, shapes.Finished, errors=ENDS, beside=True)
async def done(context: Context, parameters: DoneParameters) -> Answer:
    """End the job of your claim. A repeated call has the answer of the first."""
    result = None if parameters.result is None else msgspec.json.encode(parameters.result)
    return await _answer(context, Done(parameters.named(), result, _worker(context)), "Done")


@command("release", ReleaseParameters, shapes.Returned, errors=ENDS, beside=True)
async def release(context: Context, parameters: ReleaseParameters) -> Answer:
    """Give the job of your claim back, so that another worker gets it. After the last attempt it is dead."""
    operation = Release(parameters.named(), parameters.delay, parameters.error, _worker(context))
    return await _answer(context, operation, "Released")


@command("reject", RejectParameters, shapes.Returned, errors=ENDS, beside=True)
async def reject(context: Context, parameters: RejectParameters) -> Answer:
    """End the job of your claim as dead: no other worker gets it."""
    return await _answer(context, Reject(parameters.named(), parameters.error, _worker(context)), "Rejected")


async def _answer(context: Context, operation: Operation, what: str) -> Answer:
    return Answer(what, await context.process.work(operation))


def _worker(context: Context) -> Worker:
    return Worker(context.actor.client_id, context.actor.principal)


class WorkParameters(ChannelParameters):
    """Parameters of ``work``."""


@command(
    "work",
    WorkParameters,
    shapes.WorkOverview,
    errors=(ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.FORBIDDEN),
    cost=LOOK,
    looks=True,
)
async def work(context: Context, parameters: WorkParameters) -> Answer:
    """Show the jobs of a work channel: how many are ready, who has which, and which are dead."""
    address = target(context, parameters)
    overview = await context.process.ask(lambda: service.overview(context.actor, address))
    return Answer(f"{overview.ready} jobs are ready in {address}", overview)


class JobParameters(ChannelParameters):
    """A job."""

    seq: Annotated[int, Meta(ge=0, le=2**63 - 1, description="The `seq` of the job's message.")] = 0


class RetryParameters(JobParameters):
    """Parameters of ``retry_job``."""


class DiscardParameters(JobParameters):
    """Parameters of ``discard_job``."""


#: The errors of the commands for one job.
OF_JOB = (ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.FORBIDDEN)


@command("retry_job", RetryParameters, shapes.JobState, who="admin", errors=OF_JOB, cost=LOOK)
async def retry_job(context: Context, parameters: RetryParameters) -> Answer:
    """Make a dead or discarded job ready again, with all of its attempts."""
    address, seq = target(context, parameters), parameters.seq
    state = await context.process.run_writer(lambda: service.retry(context.actor, address, seq, door="socket"))
    return Answer(f"Job {seq} of {address} is {state.state}", state)


@command("discard_job", DiscardParameters, shapes.JobState, who="admin", errors=OF_JOB, cost=LOOK)
async def discard_job(context: Context, parameters: DiscardParameters) -> Answer:
    """End a job that is not done yet. A worker that has it gets CLAIM_LOST."""
    address, seq = target(context, parameters), parameters.seq
    state = await context.process.run_writer(lambda: service.discard(context.actor, address, seq, door="socket"))
    return Answer(f"Job {seq} of {address} is {state.state}", state)
