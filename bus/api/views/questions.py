"""The views of questions: ask, wait for the answer, and reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...auth.permissions import Actor
from ...conf.settings import config
from ...models import Question
from ...protocol.asking import REPLY
from ...protocol.dialects import decode_object, normalise
from ...protocol.errors import ErrorCode
from ...protocol.faults import FrameError
from ...protocol.frames import quoted
from ...protocol.inbound import Inbound
from ...protocol.numbers import unusual
from ...protocol.session import read_within
from ...publishing.django import publish_frames
from ...publishing.plan import limits_of
from ...services import asks
from ..asking import end_of, wait_for_end
from ..bodies import FramesParser
from ..schema import SPEAKER, SPEAKER_ERRORS, operation, path
from ..serializers import questions as bodies
from ..throttling import spend
from ..waiting import Answer, Waiter, answer, seconds_of, wait_for
from .base import BusView
from .messages import PUBLISH_ERRORS

ASK = path("ask", "Id of the question's message.", r"^[A-Za-z0-9_.:@-]{1,160}$", "arq_q1")
WAIT = OpenApiParameter(
    "wait", {"type": "number", "minimum": 0, "maximum": 25}, OpenApiParameter.QUERY,
    description="Seconds to wait for the answer. The default is 0.",
)  # fmt: skip
_CONTENT = frozenset({"id", "message", "payload", "metadata", "traceparent", "tracestate"})
_ASK_KEYS = frozenset({"timeout", "durable", "correlation"})
_QUESTION_KEYS = _CONTENT | _ASK_KEYS | {"to", "address"}
_REPLY_KEYS = _CONTENT | {"error", "reply_to"}

#: The keys of a frame as raw JSON.
Raw = dict[str, msgspec.Raw]


class _QuestionView(BusView):
    """A view whose caller may speak under another client_id of its own."""

    parser_classes = [FramesParser]

    def body(self, keys: frozenset[str]) -> tuple[bytes, Raw]:
        """The body, and its keys. Raises ``BusError`` INVALID_JSON, or VALIDATION_ERROR for another key than ``keys``."""
        data: Any = self.request.data
        data = data if isinstance(data, bytes) else b""
        # The first token of the request was taken already, so only the bytes are left.
        spend(self.actor, 0, len(data))
        raw = decode_object(data)
        unknown = sorted(raw.keys() - keys)
        if unknown:
            known = ", ".join(sorted(keys))
            raise FrameError(
                ErrorCode.VALIDATION_ERROR,
                details=[
                    {"field": key, "message": f"There is no such field. The fields are {known}."} for key in unknown
                ],
            )
        return data, raw


def _read(data: bytes, frame: Raw) -> Inbound:
    """The message of a ``frame`` made from the body ``data``, by the grammar of the socket. Raises ``BusError`` as that."""
    return read_within(data, limits_of(config()), lambda data: normalise(frame, numbers=unusual(data)))


def question_frame(raw: Mapping[str, msgspec.Raw]) -> Raw:
    """The frame of a question from the keys of a body. Raises ``BusError`` VALIDATION_ERROR without exactly one target."""
    if ("to" in raw) == ("address" in raw):
        problem = "Give `to` (a client_id) or `address` (a work channel), and not both."
        raise FrameError(ErrorCode.VALIDATION_ERROR, details=[{"field": "to", "message": problem}])
    frame = {key: value for key, value in raw.items() if key not in _ASK_KEYS and key != "address"}
    told = b",".join(b"%b:%b" % (quoted(key), bytes(raw[key])) for key in sorted(_ASK_KEYS & raw.keys()))
    frame |= {"type": msgspec.Raw(quoted("private" if "to" in raw else "event")), "ask": msgspec.Raw(b"{%b}" % told)}
    if "address" in raw:
        frame["channel"] = raw["address"]
    return frame


def _waiting(request: Request, actor: Actor, row: Question, seconds: float) -> HttpResponseBase:
    """The response about a question of the actor. It waits some ``seconds`` for the end of an open one."""

    def told(found: shapes.Question | None) -> Answer | None:
        return None if found is None else answer(found)

    async def wait(waiter: Waiter, seconds: float) -> Answer | None:
        return told(await wait_for_end(waiter, row, seconds))

    return wait_for(
        request._request,
        actor,
        seconds,
        look=lambda: told(end_of(row)),
        wait=wait,
        nothing=lambda: answer(asks.state_of(row), 202),
    )


class Ask(_QuestionView):
    """``/ask``."""

    @operation(
        "ask",
        "Ask a client, or a work channel",
        shapes.Question,
        tag="questions",
        request=bodies.QuestionToAsk,
        parameters=[SPEAKER, WAIT],
        errors=(
            *PUBLISH_ERRORS,
            ErrorCode.NO_RESPONDER,
            ErrorCode.ASK_TIMEOUT,
            ErrorCode.QUESTION_NOT_FOUND,
            ErrorCode.RESTARTING,
        ),
        more={202: shapes.Question},
        examples=[
            OpenApiExample("a question", value={"to": "adder", "payload": {"a": 1, "b": 2}}, request_only=True),
            OpenApiExample(
                "for later",
                value={"to": "adder", "payload": {"a": 1}, "durable": True, "timeout": 3600, "id": "sum-17"},
                request_only=True,
            ),
        ],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Ask, and wait for the answer. 200: it is there. 202: the question is open, and `GET /asks/{ask}` waits on.

        A repeated `id` asks nothing new and answers as the first request would now.
        """
        seconds = seconds_of(request.query_params.get("wait"))
        data, raw = self.body(_QUESTION_KEYS)
        inbound = _read(data, question_frame(raw))
        actor, new = self.speaker()
        published = publish_frames([inbound], actor=actor, may_wait=True, new_sender=new).published[0]
        return _waiting(request, actor, asks.find(actor, published.id, actor.client_id), seconds)


class OneQuestion(_QuestionView):
    """``/asks/{ask}``."""

    @operation(
        "asks_get",
        "Show a question, or wait for its answer",
        shapes.Question,
        tag="questions",
        parameters=[ASK, SPEAKER, WAIT],
        errors=(
            ErrorCode.QUESTION_NOT_FOUND,
            ErrorCode.ASK_TIMEOUT,
            *SPEAKER_ERRORS,
            ErrorCode.RESTARTING,
        ),
        more={202: shapes.Question},
    )
    def get(self, request: Request, ask: str) -> HttpResponseBase:
        """For the asker. 200: the answer is there. 202: the question is open. 504: nobody answered in time."""
        seconds = seconds_of(request.query_params.get("wait"))
        actor, _ = self.speaker()
        return _waiting(request, actor, asks.find(actor, unquote(ask)), seconds)


class Reply(_QuestionView):
    """``/asks/{ask}/reply``."""

    @operation(
        "asks_reply",
        "Answer a question",
        shapes.Published,
        tag="questions",
        status=201,
        request=bodies.ReplyToSend,
        parameters=[ASK, SPEAKER],
        errors=(ErrorCode.QUESTION_NOT_FOUND, ErrorCode.QUESTION_ENDED, *SPEAKER_ERRORS),
        more={200: shapes.Published},
    )
    def post(self, request: Request, ask: str) -> Response:
        """For the client that was asked. 201: the asker gets the reply. 200: you sent this reply before."""
        data, raw = self.body(_REPLY_KEYS)
        frame = {**raw, "type": msgspec.Raw(quoted(REPLY)), "to_message": msgspec.Raw(quoted(unquote(ask)))}
        actor, _ = self.speaker()
        published = publish_frames([_read(data, frame)], actor=actor).published[0]
        return Response(published, status=200 if published.duplicate else 201)
