"""The views of messages: history, and publishing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from drf_spectacular.utils import OpenApiExample, PolymorphicProxySerializer
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...commands.base import LOOK
from ...conf.settings import config
from ...models import Message
from ...protocol.dialects import decode_object, normalise, read_closely
from ...protocol.errors import BusError, ErrorCode
from ...protocol.faults import FrameError
from ...protocol.inbound import Inbound, copies_of, size_of
from ...protocol.names import Address
from ...protocol.numbers import unusual
from ...protocol.session import read_within
from ...publishing.django import publish_frames
from ...publishing.plan import at, limits_of
from ...services import history
from ..bodies import FramesParser
from ..queries import ChannelMessageFilter, MessageFilter
from ..schema import ADDRESS, SPEAKER, operation, query
from ..serializers import messages as bodies
from ..throttling import spend
from .base import BusView, address_of, page

#: The answer of a POST: of one message, or of a batch.
ANSWER = PolymorphicProxySerializer(
    component_name="PublishedOrDelivery",
    serializers=[shapes.Published, shapes.Delivery],  # type: ignore[list-item] # described by StructExtension
    resource_type_field_name=None,
)
PUBLISH_ERRORS = (
    ErrorCode.INVALID_NAME,
    ErrorCode.UNSUPPORTED_VERSION,
    ErrorCode.UNKNOWN_TYPE,
    ErrorCode.CHANNEL_NOT_FOUND,
    ErrorCode.TARGET_NOT_FOUND,
    ErrorCode.CLIENT_ID_IN_USE,
    ErrorCode.STREAM_NOT_FOUND,
    ErrorCode.MESSAGE_NOT_FOUND,
    ErrorCode.LIMIT_REACHED,
)

_raw_array = msgspec.json.Decoder(list[msgspec.Raw])


class _MessageView(BusView):
    parser_classes = [FramesParser]
    look_cost = LOOK

    def answer(self, filters: ChannelMessageFilter, address: Address | None) -> Response:
        """A page of history."""
        values = filters.values
        question = history.Question(
            address,
            limit=filters.size,
            before=values["before"],
            after=values["after"],
            descending=values["order"] != "asc",
            type=values["type"] or None,
            sender=values["sender"] or None,
            text=values["text"] or None,
            cursor=values["cursor"] or None,
            fold=bool(values["fold"]),
        )
        found = history.page(self.actor, question)
        rows = [history.describe(message) for message in found.messages]
        return page(rows, filters, found.cursor)

    def publish(self, initial: Address | None) -> Response:
        """Publish the body: one frame, or a batch of frames."""
        frames_in, batch = read_frames(self.request.data)
        actor = self.actor
        spend(actor, *_cost(frames_in, len(self.request.data)))
        if initial is not None:
            for index, inbound in enumerate(frames_in):
                _keep_to(inbound, initial, index if batch else None)
        speaker, new = self.speaker()
        delivery = publish_frames(frames_in, actor=speaker, initial=initial, may_wait=True, new_sender=new)
        known = bool(delivery.published) and all(published.duplicate for published in delivery.published)
        status = 200 if known else 201
        if batch or delivery.unknown_targets or len(delivery.published) != 1:
            body = shapes.Delivery(results=delivery.published, unknown_targets=delivery.unknown_targets)
            return Response(body, status=status)
        return Response(delivery.published[0], status=status)


def _cost(frames_in: Sequence[Inbound], body: int) -> tuple[int, int]:
    """The cost of the frames of a ``body``: the rows beyond the first, and the bytes of all rows. ``body`` is in bytes.

    A private message is stored once for each target. Raises ``BusError`` LIMIT_REACHED or FRAME_TOO_LARGE before any write.
    """
    settings = config()
    rows = sum(copies_of(inbound) for inbound in frames_in)
    size = body + sum((copies_of(inbound) - 1) * size_of(inbound) for inbound in frames_in)
    if rows > settings.batch_rows:
        raise BusError(
            ErrorCode.LIMIT_REACHED,
            f"The request has {rows} messages, where a private message counts once for each target. "
            f"The limit is {settings.batch_rows}. Use several requests.",
            [{"limit": "batch_rows", "value": settings.batch_rows}],
        )
    if size > settings.batch_bytes:
        raise BusError(
            ErrorCode.FRAME_TOO_LARGE,
            f"The messages of the request have {size} bytes, where a private message counts once for each target. "
            f"The limit is {settings.batch_bytes}. Use several requests.",
            [{"limit": "batch_bytes", "value": settings.batch_bytes}],
        )
    return rows - 1, size


def _keep_to(inbound: Inbound, initial: Address, index: int | None) -> None:
    """Address a frame to the channel of the URL. Raises ``BusError`` for a frame with another address, and for an append."""
    if inbound.append is not None:
        problem = BusError(
            ErrorCode.VALIDATION_ERROR,
            "This address accepts no appends. Post them to /api/v1/streams.",
            [{"field": "type"}],
        )
        raise problem if index is None else at(problem, index)
    for field, own in (("room", initial.room), ("channel", initial.channel)):
        given = getattr(inbound, field)
        if given not in (None, own, str(initial)) or inbound.to:
            problem = BusError(
                ErrorCode.VALIDATION_ERROR,
                f"This address accepts only messages to {initial}. Post others to /api/v1/messages.",
                [{"field": "to" if inbound.to else field}],
            )
            raise problem if index is None else at(problem, index)
    inbound.room, inbound.channel = initial


def read_frames(body: Any) -> tuple[Sequence[Inbound], bool]:
    """The frames of a body and whether it is a batch. Raises ``BusError`` as on the socket, with the frame's index."""
    data = body if isinstance(body, bytes) else b""
    raw = decode_object(data)
    if "messages" not in raw:
        return [_frame(data, raw, None)], False
    settings = config()
    unknown = sorted(raw.keys() - {"messages"})
    if unknown:
        raise FrameError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": key, "message": "A batch may only have the field `messages`."} for key in unknown],
        )
    try:
        rows = _raw_array.decode(bytes(raw["messages"]))
    except msgspec.DecodeError:
        raise FrameError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": "messages", "message": "`messages` must be a list of messages."}],
        ) from None
    if not 1 <= len(rows) <= settings.batch:
        raise FrameError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": "messages", "message": f"A batch must have 1 to {settings.batch} messages."}],
        )
    return [_frame(bytes(row), None, index) for index, row in enumerate(rows)], True


def _frame(data: bytes, raw: dict[str, msgspec.Raw] | None, index: int | None) -> Inbound:
    """One message of a body. ``raw`` has its keys if they are already decoded."""
    try:
        return read_within(
            data, limits_of(config()), read_closely if raw is None else lambda _: normalise(raw, numbers=unusual(data))
        )
    except BusError as problem:
        raise problem if index is None else at(problem, index) from None


class Messages(_MessageView):
    """``/messages``."""

    @operation(
        "messages_list",
        "Search messages",
        shapes.MessageList,
        tag="messages",
        parameters=query(MessageFilter),
        errors=(ErrorCode.INVALID_NAME, ErrorCode.ROOM_NOT_FOUND, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def get(self, request: Request) -> Response:
        """Messages of a channel, of a room with all of its channels, or of all channels that you may read.

        The newest come first, or with `order=asc` the oldest. Every page costs the same, however old its messages are.
        """
        filters = MessageFilter.of(request, Message.objects.none())
        return self.answer(filters, history.address_of(filters.values["room"], filters.values["channel"]))

    @operation(
        "messages_publish",
        "Publish messages",
        ANSWER,
        tag="messages",
        status=201,
        request={"application/json": PolymorphicProxySerializer(
            "MessageOrBatch", [bodies.MessageToSend, bodies.Batch], None)},
        parameters=[SPEAKER],
        errors=PUBLISH_ERRORS,
        more={200: ANSWER},
        examples=[
            OpenApiExample(
                "an event",
                value={"room": "science", "channel": "explore", "message": "hello", "id": "greeting-1"},
                request_only=True,
            ),
            OpenApiExample(
                "a private message",
                value={"type": "private", "to": ["my-client-1"], "message": "psst"},
                request_only=True,
            ),
            OpenApiExample(
                "a batch",
                value={
                    "messages": [
                        {"channel": "science:explore", "payload": {"n": 1}},
                        {"channel": "science:share", "payload": {"n": 2}},
                    ]
                },
                request_only=True,
            ),
        ],
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Publish one message or a batch, to any channel, room or client. 201: it is durable. 200: it was published before.

        A repeated `id` is recognised for a day (by default). The message is not published again, and the answer has
        `"duplicate": true` with the first `seq`. Either all messages of a batch are published, in order, or none.
        """
        return self.publish(None)


class ChannelMessages(_MessageView):
    """``/channels/{address}/messages``."""

    @operation(
        "channel_messages_list",
        "Read the messages of a channel",
        shapes.MessageList,
        tag="messages",
        parameters=[ADDRESS, *query(ChannelMessageFilter)],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.ROOM_NOT_FOUND, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def get(self, request: Request, address: str) -> Response:
        """Messages of one channel. For new messages, use `?order=asc&after=<your last seq>`."""
        where = address_of(address)
        filters = ChannelMessageFilter.of(request, Message.objects.none())
        return self.answer(filters, where)

    @operation(
        "channel_messages_publish",
        "Publish to a channel",
        ANSWER,
        tag="messages",
        status=201,
        request={"application/json": PolymorphicProxySerializer(
            "ChannelMessageOrBatch", [bodies.ChannelMessageToSend, bodies.ChannelBatch], None)},
        parameters=[ADDRESS, SPEAKER],
        errors=PUBLISH_ERRORS,
        more={200: ANSWER},
        examples=[
            OpenApiExample("a text", value={"message": "hello"}, request_only=True),
            OpenApiExample(
                "data, safe to repeat",
                value={"type": "reading", "id": "r-17", "payload": {"celsius": 21.5}},
                request_only=True,
            ),
            OpenApiExample("a batch", value={"messages": [{"message": "one"}, {"message": "two"}]}, request_only=True),
        ],
    )  # fmt: skip
    def post(self, request: Request, address: str) -> Response:
        """Publish one message or a batch to this channel. 201: it is durable. 200: it was published before."""
        return self.publish(address_of(address))
