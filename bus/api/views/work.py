"""The views of leased work: claim jobs, end claims, and look after a queue."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from django.db import transaction
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...commands.base import LOOK
from ...directory import clients as client_directory
from ...protocol.errors import ErrorCode
from ...services import work as service
from ...services import working
from ..schema import ADDRESS, SPEAKER, SPEAKER_ERRORS, operation, path
from ..serializers import work as bodies
from ..waiting import Answer, Waiter, answer, seconds_of, wait_for
from .base import DOOR, BusView, address_of

CLAIM = path(
    "claim", "A claim, as it was answered.", r"^arq_clm_[0-9]+_[0-9]+_[0-9a-f]+$", "arq_clm_17_3_5b0c9a1f22d4e8b7"
)
SEQ = OpenApiParameter("seq", OpenApiTypes.INT64, OpenApiParameter.PATH, description="The `seq` of the job's message.")
WAIT = OpenApiParameter(
    "wait", {"type": "number", "minimum": 0, "maximum": 25}, OpenApiParameter.QUERY,
    description="Seconds to wait for the first job when none is ready. The default is 0.",
)  # fmt: skip
ENDS = (ErrorCode.CLAIM_NOT_FOUND, ErrorCode.CLAIM_LOST, *SPEAKER_ERRORS)


class _WorkerView(BusView):
    """A view of claims, whose body may be left out."""

    def body(self, serializer: Any) -> dict[str, Any]:
        """The checked body. No body counts as an empty one."""
        return self.read(serializer) if self.request.data else {}


class Claims(_WorkerView):
    """``/channels/{address}/claims``."""

    @operation(
        "claims_create",
        "Claim jobs",
        shapes.Claims,
        tag="work",
        request=bodies.ClaimRequest,
        parameters=[ADDRESS, SPEAKER, WAIT],
        errors=(
            *SPEAKER_ERRORS,
            ErrorCode.CHANNEL_NOT_FOUND,
            ErrorCode.LIMIT_REACHED,
            ErrorCode.BUSY,
            ErrorCode.RESTARTING,
        ),
        examples=[OpenApiExample("up to five jobs", value={"max": 5}, request_only=True)],
    )
    def post(self, request: Request, address: str) -> HttpResponseBase:
        """Get jobs of a work channel, each for yourself alone. `claims` is empty if no job came in time.

        Renew a claim before its lease ends. Otherwise another worker gets the job.
        """
        seconds = seconds_of(request.query_params.get("wait"))
        where = address_of(address)
        given = self.body(bodies.ClaimRequest)
        most = given.get("max", 1)
        have = tuple(given["have"]) if "have" in given else None
        actor, new = self.speaker()

        def look() -> Answer | None:
            nonlocal have, new
            # Both count once. Later the caller may have got jobs by another request.
            known, have, taking, new = have, None, new, False
            with transaction.atomic():
                if taking:
                    client_directory.take_id(actor)
                found = working.claim_jobs(where, most=most, have=known, actor=actor)
            return answer(found) if found.claims else None

        async def wait(waiter: Waiter, seconds: float) -> Answer | None:
            worker = working.worker_of(actor)
            found = await waiter.node.work.claim(waiter.client, where, most, seconds, worker=worker)
            return answer(found) if found.claims else None

        return wait_for(
            request._request,
            self.actor,
            seconds,
            look=look,
            wait=wait,
            nothing=lambda: answer(shapes.Claims(claims=[], ready=0)),
        )


class Renew(_WorkerView):
    """``/claims/{claim}/renew``."""

    @operation("claims_renew", "Renew a claim", shapes.Renewed, tag="work", parameters=[CLAIM, SPEAKER], errors=ENDS)
    def post(self, request: Request, claim: str) -> Response:
        """Begin the lease of your claim anew. Do so well before it ends."""
        self.body(bodies.Nothing)
        return Response(working.renew_claim(unquote(claim), actor=self.speaker()[0]))


class Done(_WorkerView):
    """``/claims/{claim}/done``."""

    @operation(
        "claims_done",
        "Finish a job",
        shapes.Finished,
        tag="work",
        request=bodies.WorkResult,
        parameters=[CLAIM, SPEAKER],
        errors=(*ENDS, ErrorCode.FRAME_TOO_LARGE),
        examples=[OpenApiExample("a result", value={"result": {"sum": 3}}, request_only=True)],
    )
    def post(self, request: Request, claim: str) -> Response:
        """End your job as done. A repeated request has the answer of the first."""
        given = self.body(bodies.WorkResult)
        return Response(working.finish_job(unquote(claim), given.get("result"), actor=self.speaker()[0]))


class Release(_WorkerView):
    """``/claims/{claim}/release``."""

    @operation(
        "claims_release",
        "Give a job back",
        shapes.Returned,
        tag="work",
        request=bodies.WorkReturn,
        parameters=[CLAIM, SPEAKER],
        errors=ENDS,
    )
    def post(self, request: Request, claim: str) -> Response:
        """Give your job back, so that another worker gets it. After the last attempt it is dead."""
        given = self.body(bodies.WorkReturn)
        delay, error = given.get("delay", 0.0), given.get("error")
        return Response(working.release_job(unquote(claim), delay=delay, error=error, actor=self.speaker()[0]))


class Reject(_WorkerView):
    """``/claims/{claim}/reject``."""

    @operation(
        "claims_reject",
        "Declare a job dead",
        shapes.Returned,
        tag="work",
        request=bodies.WorkError,
        parameters=[CLAIM, SPEAKER],
        errors=ENDS,
    )
    def post(self, request: Request, claim: str) -> Response:
        """End your job as dead: no other worker gets it."""
        given = self.body(bodies.WorkError)
        return Response(working.reject_job(unquote(claim), error=given.get("error"), actor=self.speaker()[0]))


class Overview(BusView):
    """``/channels/{address}/work``."""

    look_cost = LOOK

    @operation(
        "work_get",
        "Show the jobs of a work channel",
        shapes.WorkOverview,
        tag="work",
        parameters=[ADDRESS],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def get(self, request: Request, address: str) -> Response:
        """How many jobs are ready, who has which, and which are dead, like `work`."""
        return Response(service.overview(self.actor, address_of(address)))


class Retry(BusView):
    """``/channels/{address}/work/{seq}/retry``."""

    @operation(
        "work_retry",
        "Retry a job",
        shapes.JobState,
        tag="work",
        parameters=[ADDRESS, SEQ],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def post(self, request: Request, address: str, seq: str) -> Response:
        """Make a dead or discarded job ready again, with all of its attempts. For admins, like `retry_job`."""
        return Response(service.retry(self.actor, address_of(address), _seq(seq), door=DOOR))


class Discard(BusView):
    """``/channels/{address}/work/{seq}/discard``."""

    @operation(
        "work_discard",
        "Discard a job",
        shapes.JobState,
        tag="work",
        parameters=[ADDRESS, SEQ],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def post(self, request: Request, address: str, seq: str) -> Response:
        """End a job that is not done. A worker that has it finds its claim cancelled. For admins, like `discard_job`."""
        return Response(service.discard(self.actor, address_of(address), _seq(seq), door=DOOR))


def _seq(text: str) -> int:
    # No number of a log is larger. The service answers that there is no such job.
    return min(int(text), 2**63 - 1)
