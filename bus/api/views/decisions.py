"""The views of decisions: ask people, decide, wait for the answer, use it, and withdraw the question."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...auth.permissions import Actor
from ...commands.base import LISTING
from ...models import Decision
from ...protocol.errors import ErrorCode
from ...protocol.names import WHOLE, Address
from ...services import decision_lists, decision_requests
from ...services import decisions as service
from ...services.decision_requests import Asked
from ...services.decision_rows import APPROVE, PENDING, REJECT
from ..queries import DecisionFilter
from ..schema import ADDRESS, SPEAKER, SPEAKER_ERRORS, operation, path, query
from ..serializers import decisions as bodies
from ..serializers.work import Nothing
from ..waiting import Answer, Waiter, answer, seconds_of, wait_for
from .base import DOOR, BusView, address_of, decode_cursor, encode_cursor, page

DECISION = path("decision", "The name of a decision.", r"^arq_dec_[0-9a-f]{1,32}$", "arq_dec_5f0c1a9be2d44c0f8a6b1c2d")
WAIT = OpenApiParameter(
    "wait", {"type": "number", "minimum": 0, "maximum": 25}, OpenApiParameter.QUERY,
    description="Seconds to wait for the end. The default is 0.",
)  # fmt: skip
#: The most decisions of one page.
MOST = 100


class _DecisionView(BusView):
    """A view of decisions."""

    def who(self) -> Actor:
        """The caller. An anonymous one has the client_id of its network address."""
        return self.speaker()[0] if self.actor.anonymous else self.actor


class ChannelDecisions(_DecisionView):
    """``/channels/{address}/decisions``."""

    @operation(
        "decisions_request",
        "Ask people to decide",
        shapes.Decision,
        tag="decisions",
        status=201,
        request=bodies.DecisionToRequest,
        parameters=[ADDRESS, SPEAKER],
        errors=(
            *SPEAKER_ERRORS,
            ErrorCode.CHANNEL_NOT_FOUND,
            ErrorCode.LIMIT_REACHED,
            ErrorCode.REJECTED_BEFORE,
            ErrorCode.OUTCOME_UNKNOWN,
        ),
        more={200: shapes.Decision},
        examples=[
            OpenApiExample(
                "a refund",
                value={
                    "key": "refund-7",
                    "title": "Refund 20 euros for order 7?",
                    "action": "refund",
                    "args": {"order": 7, "amount": 20},
                    "allow": ["approve", "edit", "reject"],
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request, address: str) -> Response:
        """201: people see the question. 200: you asked it before with this `key`, and it is pending or its answer is unused.

        Needs the right to publish in the channel.
        """
        given = self.read(bodies.DecisionToRequest)
        given["allow"] = tuple(given.get("allow", (APPROVE, REJECT)))
        asked = Asked(address_of(address), **given)
        actor, new = self.speaker()
        found, fresh = decision_requests.ask(asked, actor, new_sender=new, door=DOOR)
        return Response(found, status=201 if fresh else 200)


class Decisions(_DecisionView):
    """``/decisions``."""

    look_cost = LISTING

    @operation(
        "decisions_list",
        "List decisions",
        shapes.DecisionList,
        tag="decisions",
        parameters=query(DecisionFilter),
        errors=(ErrorCode.INVALID_NAME,),
    )
    def get(self, request: Request) -> Response:
        """The decisions that you may see, newest first. A page has at most 100, and may have fewer than `limit`."""
        filters = DecisionFilter.of(request, Decision.objects.none())
        values = filters.values
        place = address_of(values["address"]) if values["address"] else None
        if place is None and values["room"]:
            place = Address(values["room"], WHOLE)
        wanted = decision_lists.Wanted(place, values["state"] or None, bool(values["mine"]), bool(values["to_decide"]))
        after = decode_cursor(values["cursor"], 1)
        rows, more = decision_lists.list_decisions(
            self.who(), wanted, limit=min(filters.size, MOST), after=after[0] if after else ""
        )
        return page(rows, filters, encode_cursor(more) if more else None)


class OneDecision(_DecisionView):
    """``/decisions/{decision}``."""

    @operation(
        "decisions_get",
        "Show a decision, or wait for its end",
        shapes.Decision,
        tag="decisions",
        parameters=[DECISION, WAIT],
        errors=(ErrorCode.DECISION_NOT_FOUND, ErrorCode.RESTARTING),
        more={202: shapes.Decision},
    )
    def get(self, request: Request, decision: str) -> HttpResponseBase:
        """200: it has ended. 202: it is pending."""
        seconds = seconds_of(request.query_params.get("wait"))
        uid, actor = unquote(decision), self.who()

        def told(found: shapes.Decision) -> Answer:
            return answer(found, 202 if found.state == PENDING else 200)

        def look() -> Answer | None:
            found = service.decision(uid, actor=actor)
            return None if found.state == PENDING else told(found)

        async def wait(waiter: Waiter, seconds: float) -> Answer | None:
            return told(await waiter.node.decisions.wait(actor, uid, seconds))

        return wait_for(
            request._request,
            self.actor,
            seconds,
            look=look,
            wait=wait,
            nothing=lambda: told(service.decision(uid, actor=actor)),
        )


class _EndView(_DecisionView):
    """A view that needs no body."""

    def body(self, serializer: Any = Nothing) -> dict[str, Any]:
        """The checked body. No body counts as an empty one."""
        return self.read(serializer) if self.request.data else {}


class Decide(_DecisionView):
    """``/decisions/{decision}/decide``."""

    @operation(
        "decisions_decide",
        "Decide",
        shapes.Decision,
        tag="decisions",
        request=bodies.DecisionToMake,
        parameters=[DECISION],
        errors=(
            ErrorCode.DECISION_NOT_FOUND,
            ErrorCode.DECISION_ENDED,
            ErrorCode.REVOKED,
            ErrorCode.OUTCOME_UNKNOWN,
        ),
        examples=[
            OpenApiExample("a yes", value={"answer": "approve"}, request_only=True),
            OpenApiExample("other arguments", value={"answer": "edit", "args": {"amount": 10}}, request_only=True),
        ],
    )
    def post(self, request: Request, decision: str) -> Response:
        """Needs the right `decide` in the channel, and you are not the asker. The first answer counts.

        Your own repeat has the same result. Somebody else gets 409 with the first answer.
        """
        given = self.read(bodies.DecisionToMake)
        made = service.decide(
            unquote(decision),
            given["answer"],
            args=given.get("args"),
            comment=given.get("comment", ""),
            actor=self.who(),
            door=DOOR,
        )
        return Response(made)


class Consume(_EndView):
    """``/decisions/{decision}/consume``."""

    @operation(
        "decisions_consume",
        "Use the answer, once",
        shapes.Decision,
        tag="decisions",
        parameters=[DECISION],
        errors=(ErrorCode.DECISION_NOT_FOUND, ErrorCode.ALREADY_USED, ErrorCode.OUTCOME_UNKNOWN),
    )
    def post(self, request: Request, decision: str) -> Response:
        """For the asker, before the action. The second request gets 409."""
        self.body()
        return Response(service.consume_decision(unquote(decision), actor=self.who(), door=DOOR))


class Cancel(_EndView):
    """``/decisions/{decision}/cancel``."""

    @operation(
        "decisions_cancel",
        "Withdraw a question",
        shapes.Decision,
        tag="decisions",
        parameters=[DECISION],
        errors=(ErrorCode.DECISION_NOT_FOUND, ErrorCode.DECISION_ENDED, ErrorCode.OUTCOME_UNKNOWN),
    )
    def post(self, request: Request, decision: str) -> Response:
        """For the asker, and for those who may manage the channel."""
        self.body()
        return Response(service.cancel_decision(unquote(decision), actor=self.who(), door=DOOR))
