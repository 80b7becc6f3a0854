"""One streamed message as Server-Sent Events: its own frames, AG-UI's events, or Vercel's UI message stream (docs/rest.md)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from ..auth.permissions import HISTORY, Actor
from ..conf.settings import config
from ..db.faults import without_transaction
from ..directory.channels import ChannelRef
from ..directory.streams import find_stream, stream_not_found
from ..log.effects import StreamState
from ..node import Node
from ..protocol.errors import BusError, ErrorCode
from ..services import streams
from ..services.clients import as_owner
from .dressing import FORMS, Dressing, Event, Position, Run, position_of
from .following import Follower, answer, caller, check_query, event
from .schema import OF, operation
from .throttling import spend
from .views.base import BusView

AS = OpenApiParameter(
    "as",
    {"type": "string", "enum": list(FORMS), "default": "parts"},
    OpenApiParameter.QUERY,
    description="The form of the events: the frames of the socket, AG-UI's events, or Vercel's UI message stream.",
)
LAST_PART = OpenApiParameter(
    "Last-Event-ID",
    {"type": "string", "pattern": r"^[0-9]{1,18}(:[0-9a-f.]{1,40})?$"},
    OpenApiParameter.HEADER,
    description="Id of the last received event.",
)
#: How often a message is looked for that is neither open here nor ended.
TRIES = 3
#: Characters that are kept of the names in a long body.
LONGEST_NAME = 200

_runs = msgspec.json.Decoder(Run)


class StreamFollower(Follower):
    """A follower of one streamed message, open or ended."""

    def __init__(
        self, node: Node, actor: Actor, ref: ChannelRef, scope: dict[str, Any], state: StreamState, dressing: Dressing
    ) -> None:
        super().__init__(node, actor, ref, scope)
        self._state = state
        self._dressing = dressing
        self._first = b""
        self.headers = dressing.headers

    async def begin(self) -> None:
        """Listen to the message. Of one that has ended, the end has the whole content.

        Raises ``BusError`` STREAM_NOT_FOUND for a message that is gone, and FORBIDDEN for one that has ended without the right
        to history.
        """
        of = self._state.uid
        for _ in range(TRIES):
            if await self.node.growing.listen(self.ref, of, self.client):
                return
            self.node.permissions.check(self.client, HISTORY, self.ref)
            frame = await self.node.runtime.run(streams.end_of, of)
            if frame is not None:
                self._first = self.events_of(frame)
                return
            # It was opened in this very moment, or its channel begins anew here.
        raise stream_not_found(of)

    def first(self) -> bytes:
        """Everything, if the message has ended."""
        return self._first

    def events_of(self, frame: bytes) -> bytes:
        """The events of a frame in the form that was asked for."""
        return b"" if self.over else b"".join(map(_bytes_of, self._dressing.frame(frame)))

    @property
    def over(self) -> bool:
        """Whether the end was given."""
        return self._dressing.over

    def last(self, error: BusError) -> bytes:
        """The reason in the form that was asked for."""
        retry = b"retry: %d\n" % int(error.retry_after * 1000) if error.retry_after else b""
        return retry + b"".join(map(_bytes_of, self._dressing.failed(error)))


def _bytes_of(made: Event) -> bytes:
    return event(made.data, id=made.id, name=made.name)


def wanted(request: HttpRequest) -> tuple[type[Dressing], Position | None]:
    """The form of the events, and the reader's position. Raises ``BusError`` VALIDATION_ERROR."""
    check_query(request, "as")
    name = request.GET.get("as") or "parts"
    header = request.headers.get("Last-Event-ID", "").strip()
    last = position_of(header) if header else None
    faults = []
    if name not in FORMS:
        faults.append({"field": "as", "message": f"This must be one of {', '.join(FORMS)}."})
    if header and last is None:
        faults.append({"field": "Last-Event-ID", "message": "This must be the id of an event."})
    if faults:
        raise BusError(ErrorCode.VALIDATION_ERROR, details=faults)
    return FORMS[name], last


def run_of(request: HttpRequest, actor: Actor) -> Run | None:
    """What the body says about AG-UI's run; None without such a body. Its bytes count for ``actor``.

    Raises ``BusError`` FRAME_TOO_LARGE or RATE_LIMITED.
    """
    settings = config()
    body = request.read(settings.batch_bytes + 1)
    if len(body) > settings.batch_bytes:
        raise BusError(ErrorCode.FRAME_TOO_LARGE, f"The body is larger than the limit of {settings.batch_bytes} bytes.")
    spend(actor, 0, len(body))
    try:
        run = _runs.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        # Other clients send bodies of their own, which say nothing here.
        return None
    if len(body) > settings.frame_bytes:
        # The answer keeps this as long as it is open, so a long conversation is left out.
        return Run(run.thread[:LONGEST_NAME], run.run[:LONGEST_NAME])
    return run


@without_transaction
async def stream_events(request: HttpRequest, of: str) -> HttpResponseBase:
    """The view for ``/streams/{of}/events``: events, or an error in the usual form."""

    async def made(request: HttpRequest, node: Node, scope: dict[str, Any]) -> Follower:
        actor = await caller(request, node)
        form, last = wanted(request)
        run = run_of(request, actor)
        state, ref = await node.runtime.run(find_stream, actor, unquote(of))
        if ref.address.is_inbox:
            actor, floor = await node.runtime.run(as_owner, actor, ref.address.channel)
            if state.seq <= floor:
                raise stream_not_found(state.uid)
        dressing = form(state.uid, str(ref.address), state.mode, last=last, run=run)
        follower = StreamFollower(node, actor, ref, scope, state, dressing)
        await follower.open()
        return follower

    return await answer(request, made, methods=("GET", "POST"))


_DESCRIPTION: dict[str, Any] = {
    "tag": "streams",
    "parameters": [OF, AS, LAST_PART],
    "errors": (
        ErrorCode.STREAM_NOT_FOUND,
        ErrorCode.CHANNEL_NOT_FOUND,
        ErrorCode.LIMIT_REACHED,
        ErrorCode.RESTARTING,
    ),
    "streaming": True,
}


class StreamEvents(BusView):
    """The description of :func:`stream_events` in the OpenAPI document."""

    @operation("stream_events", "Follow a streamed message (Server-Sent Events)", OpenApiTypes.STR, **_DESCRIPTION)
    def get(self, request: Request, of: str) -> Response:
        """A streamed message from its beginning, then its parts, then its end. It also works after the end.

        `as=parts` gives the frames of the socket as events `snapshot`, `append` and `stream_end`. `as=agui` gives AG-UI's
        events, and `as=vercel` Vercel's UI message stream. In mode `parts` these are the parts themselves. A reader that sends
        the id of its last event as `Last-Event-ID` gets what it does not have yet. With `as=parts` it gets a snapshot.
        """
        raise TypeError("This view only describes the address; `stream_events` answers requests.")

    @operation(
        "stream_events_post",
        "Follow a streamed message as a client of AG-UI",
        OpenApiTypes.STR,
        request=OpenApiTypes.OBJECT,
        **_DESCRIPTION,
    )
    def post(self, request: Request, of: str) -> Response:
        """As `GET`. The body may be AG-UI's `RunAgentInput`, whose `threadId` and `runId` the events then repeat."""
        raise TypeError("This view only describes the address; `stream_events` answers requests.")


stream_events.cls = StreamEvents  # type: ignore[attr-defined] # where drf-spectacular looks
stream_events.initkwargs = {}  # type: ignore[attr-defined]
stream_events.csrf_exempt = True  # type: ignore[attr-defined] # it changes nothing
