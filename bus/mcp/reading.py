"""The tools that read: history, marks, and the wait for a message.

A wait looks into the log first. Then it is a member of the log's stream, so it hears each message as it comes. It moves no mark,
so a lost answer costs nothing: the next call finds the same message.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..api.waiting import Waiter
from ..auth.permissions import HISTORY, JOIN, require
from ..directory.channels import ChannelRef, ensure
from ..log import first_seq, heads
from ..node.delivery.growing import revoked
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from ..protocol.names import WHOLE
from ..protocol.routing import channel_not_found, invalid_name
from ..services import history, marking
from ..services.clients import as_owner
from ..services.questions import bounded
from . import arguments
from .caller import Caller, Later, Result, shown

#: Messages of one page, and pages that one look reads. A backlog that matches nothing is passed over in several calls.
PAGE, PAGES = 50, 20
#: What the frames of openings and ends of streamed messages have.
_STREAM = b'"stream":{'


class _Head(msgspec.Struct):
    """The place of a frame in its log."""

    seq: int | None = None


_head = msgspec.json.Decoder(_Head).decode


def read_history(caller: Caller, given: arguments.History) -> Result:
    """Past messages, the oldest first."""
    question = history.Question(
        caller.address(given.address),
        limit=given.limit,
        before=given.before_seq,
        after=given.after_seq,
        descending=given.after_seq is None,
        sender=given.sender,
        fold=True,
    )
    try:
        page = bounded(lambda: history.page(caller.actor, question))
    except BusError as problem:
        # The tools know channels only, so a room that is missing is a channel that is missing.
        if problem.code == ErrorCode.ROOM_NOT_FOUND and question.address is not None:
            raise channel_not_found(question.address) from None
        raise
    messages = [shown(found.frame) for found in page.messages]
    return {"messages": messages[::-1] if question.descending else messages, "more": page.cursor is not None}


def mark(caller: Caller, given: arguments.Mark) -> Result:
    """Move a mark."""
    address = caller.address(given.address)
    marked = marking.mark(address, given.seq, actor=caller.actor, back=given.back)
    return {"address": given.address, "mark": marked.seq, "unread": marked.unread}


def wait_for_message(caller: Caller, given: arguments.WaitForMessage) -> Later:
    """Wait for the first message after the mark."""
    search = _Search(caller, given)
    return Later(given.timeout_seconds, search.look, search.wait, search.nothing)


class _Search:
    """The search for the first matching message after a place in a log."""

    def __init__(self, caller: Caller, given: arguments.WaitForMessage) -> None:
        self._actor = caller.actor
        self._address = caller.address(given.address)
        if self._address.channel == WHOLE:
            raise invalid_name("address", given.address, "You can wait for the messages of one channel only.")
        self._given = given
        self._ref: ChannelRef | None = None
        # What the caller says itself in a channel is no news to it.
        self._own = None if self._address.is_inbox else caller.actor.client_id
        #: The seq of the last message that was looked at.
        self._position = 0
        #: Whether messages before it are lost.
        self._gap = False
        self._skipped = 0

    def _begin(self) -> None:
        """Find the log and the place in it. A caller's first visit ever begins at the head."""
        address, actor, mark = self._address, self._actor, self._given.mark
        if address.is_inbox:
            # Nobody makes the inbox of somebody else.
            as_owner(actor, address.channel)
        self._ref, _ = ensure(address, actor, create=False, action=JOIN)
        if not address.is_inbox:
            require(actor, JOIN, address, private=self._ref.private)
        if actor.anonymous:
            # Nobody keeps a mark for it. It gives the place itself.
            require(actor, HISTORY, address, private=self._ref.private)
            log = heads([self._ref.id]).get(self._ref.id)
            if log is None:
                raise channel_not_found(address)
            self._position = log.head if mark is None else min(mark, log.head)
            return
        if mark is not None:
            marking.mark(address, mark, actor=actor)
        marked = marking.begin(address, actor=actor)
        same = marked.epoch == marked.log.epoch
        self._position = marked.seq if same else 0
        first = first_seq(self._ref.id)
        left = marked.log.head + 1 if first is None else first
        self._gap = not same or left > self._position + 1

    def look(self) -> Result | None:
        """Look into the log from the place on. Runs in a database thread."""
        if self._ref is None:
            self._begin()
        for _ in range(PAGES):
            page = bounded(lambda: history.page(self._actor, self._question()))
            for found in page.messages:
                answer = self._next(msgspec.json.decode(found.frame), found.seq)
                if answer is not None:
                    return answer
            if page.cursor is None:
                return None
            self._position = max(self._position, page.seq or 0)
        return None

    def _question(self) -> history.Question:
        # What grows is passed over and stands at its end, so nothing behind it has to wait.
        place = self._position
        return history.Question(self._address, limit=PAGE, after=place, descending=False, fold=True, at_end=True)

    def _next(self, frame: dict[str, Any], seq: int) -> Result | None:
        """The answer with a message, if it matches. The place moves behind it."""
        self._position = seq
        given = self._given
        # A streamed message has the seq of its opening. The place to mark is its end.
        message = shown(frame) | {"seq": seq}
        if given.sender is None and message["from"] == self._own:
            return None
        if given.sender not in (None, message["from"]) or (given.contains or "") not in message["text"]:
            self._skipped += 1
            return None
        return self._told(message)

    def _told(self, message: Result | None) -> Result:
        told: Result = {"message": message, "mark": self._position, "skipped": self._skipped}
        if self._gap:
            told["after_gap"] = True
        return told

    def nothing(self) -> Result:
        """The answer when no message came in time."""
        return self._told(None)

    async def wait(self, waiter: Waiter, seconds: float) -> Result | None:
        """Hear the messages as they come, until one matches."""
        node, client, ref = waiter.node, waiter.client, self._ref
        assert ref is not None  # `look` ran before.
        until = node.runtime.loop.time() + seconds
        await node.rights.check_join(client, ref)
        (stream,) = await node.streams.open([ref])
        client.memberships[ref.id] = ref
        node.hub.add(stream, client, parts=False)
        node.rights.recheck_if_changed(client, ref)
        # What was committed since the first look, and before the membership.
        found = await node.runtime.ask(self.look)
        while found is None and (left := until - node.runtime.loop.time()) > 0:
            frames = await waiter.writer.next_frames(left)
            if ref.id not in client.memberships:
                raise revoked(ref.address)
            if frames:
                found = await self._hear(waiter, frames)
        return found

    async def _hear(self, waiter: Waiter, frames: list[bytes]) -> Result | None:
        """The answer among frames that came, if there is one."""
        for frame in map(legible, frames):
            head = _head(frame)
            if head.seq is None or head.seq <= self._position:
                continue
            if _STREAM in frame or head.seq != self._position + 1:
                return await waiter.node.runtime.ask(self.look)
            answer = self._next(msgspec.json.decode(frame), head.seq)
            if answer is not None:
                return answer
        return None
