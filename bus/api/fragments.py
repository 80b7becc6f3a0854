"""The messages of a channel as HTML fragments, for live pages (docs/live-pages.md).

A viewer gets the fragments after the position at which its page was rendered. Where the log does not reach back to it, the
page loads itself again.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import msgspec
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template import TemplateDoesNotExist
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from ..auth.permissions import HISTORY, SYSTEM, Actor
from ..db.faults import without_transaction
from ..directory.channels import ChannelRef
from ..live.looks import Look
from ..live.positions import log_address, read_position
from ..node import Node
from ..node.renderings import Rendered
from ..protocol.errors import BusError, ErrorCode
from .events import ChannelFollower, read
from .following import Follower, answer, caller, check_query, event

#: Milliseconds after which a browser connects again, at first and after it was told to load the page again.
RETRY, AFTER_RELOAD = 2000, 30_000


def fragment(made: str, *, id: str | None) -> bytes:
    """The bytes of the event with a fragment. It has no name: that is how htmx swaps it without a script."""
    lines = [f"id: {id}\n"] if id else []
    lines += [f"data: {line}\n" for line in made.splitlines()]
    return "".join([*lines, "\n"]).encode()


class FragmentFollower(ChannelFollower):
    """A viewer of a live page: a follower whose events are the messages as ``look`` shows them."""

    def __init__(
        self, node: Node, actor: Actor, ref: ChannelRef, request: HttpRequest, look: Look, place: tuple[str, int]
    ) -> None:
        scope: dict[str, Any] = request.scope  # type: ignore[attr-defined]
        epoch, seq = place
        super().__init__(node, actor, ref, scope, since=seq, epoch=epoch, floor=0)
        self._look = look
        self._request = request if look.per_user else None
        self._reload = fragment(
            f'<template hx-get="{reverse("bus:live-reload")}" hx-trigger="load"></template>', id=None
        )
        self._stale = False

    async def begin(self) -> None:
        """Check the right to the history and the template, and read on from the page's position.

        Raises ``BusError`` FORBIDDEN or CHANNEL_NOT_FOUND.
        """
        self.node.permissions.check(self.client, HISTORY, self.ref)
        try:
            await self.node.runtime.render(self._look.check)
        except TemplateDoesNotExist:
            # The page is of an older version of the project.
            self._stale = True
            return
        await super().begin()
        self._stale = not self.recovered

    @property
    def over(self) -> bool:
        """Whether the page has to be loaded again."""
        return self._stale

    def first(self) -> bytes:
        """The time to wait before a new connection; or the order to load the page again, for each kind of script."""
        if self._stale:
            return b"retry: %d\n%b%b" % (AFTER_RELOAD, event(b"{}", name="reload"), self._reload)
        return b"retry: %d\n\n" % RETRY

    async def events(self, frames: list[bytes]) -> bytes:
        """The fragments of the messages among ``frames``; the order to load the page again, once one of them was erased."""
        if any(map(_erases, frames)):
            self._stale = True
            return self.first()
        messages = [frame for frame in frames if self._is_message(frame)]
        if not messages:
            return b""
        if self._request is None:
            found = await self.node.renderings.shared(self._look, messages)
        else:
            render = functools.partial(self._look.render, request=_fresh(self._request))
            found = await self.node.renderings.personal(self._look.template, render, messages)
        return b"".join(map(self._event, messages, found))

    def _is_message(self, frame: bytes) -> bool:
        _, head = read(frame)
        return head.seq is not None or (self.ref.ephemeral and head.type not in ("system", "append"))

    def _event(self, frame: bytes, made: Rendered) -> bytes:
        seq = read(frame)[1].seq
        place = None if seq is None else f"{self._stream.epoch}-{seq}"
        if made.reference:
            said = msgspec.json.encode({"seq": seq, "reference": made.reference})
            return event(said, id=place, name="failed")
        # A message without a look moves the position alone.
        return fragment(made.html, id=place) if made.html or place else b""


def _erases(frame: bytes) -> bool:
    """Whether a frame is the server's notice of erased messages, which the page may show."""
    if b'"erased"' not in frame or read(frame)[1].type != "system":
        return False
    payload = msgspec.json.decode(frame).get("payload")
    return isinstance(payload, dict) and payload.get("event") == "erased"


def _fresh(request: HttpRequest) -> HttpRequest:
    """The request of a page's viewer, whose user is read again where a template asks for it."""
    fresh = copy.copy(request)

    def user() -> Any:
        known: Any = getattr(request, "user", None)
        if known is None or not known.is_authenticated:
            return AnonymousUser()
        return get_user_model()._default_manager.filter(pk=known.pk).first() or AnonymousUser()

    fresh.user = SimpleLazyObject(user)  # type: ignore[assignment]
    return fresh


def _place(request: HttpRequest) -> tuple[str, int]:
    """The viewer's position. ``Last-Event-ID`` overrides that of the page. Raises ``BusError`` VALIDATION_ERROR."""
    check_query(request, "at")
    header = request.headers.get("Last-Event-ID", "").strip()
    place = read_position(header or request.GET.get("at", ""))
    if place is None:
        field = "Last-Event-ID" if header else "at"
        raise BusError(
            ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": "This must be a position, <epoch>-<seq>."}]
        )
    return place


@without_transaction
async def fragments(request: HttpRequest, look: str) -> HttpResponseBase:
    """The view for ``/live/{look}/events``: fragments, or an error in the usual form."""

    async def made(request: HttpRequest, node: Node, scope: dict[str, Any]) -> Follower:
        wanted = Look.read(look)
        where = log_address(wanted.address)
        actor = await caller(request, node)
        place = _place(request)
        # The page was there before the first message. The project named the channel, so its viewers may wait for it.
        ref = await node.channels.resolve(where, SYSTEM)
        follower = FragmentFollower(node, actor, ref, request, wanted, place)
        await follower.open()
        return follower

    return await answer(request, made)


def reload(request: HttpRequest) -> HttpResponse:
    """Let htmx load the page again (``HX-Refresh``)."""
    return HttpResponse(headers={"HX-Refresh": "true", "Cache-Control": "no-store"})
