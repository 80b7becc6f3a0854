"""Messages of synchronous code that are published together, in one transaction: all of them, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from ..auth.permissions import PUBLISH, Actor, can, require
from ..directory.channels import ChannelRef, ensure, find_all
from ..directory.clients import known, take_id
from ..gates import gates_of
from ..log import Entry, hops
from ..models import wire_time
from ..notify import dispatch
from ..protocol.errors import BusError, ErrorCode, target_not_found
from ..protocol.inbound import Inbound
from ..protocol.routing import Route
from ..shapes import Published
from . import amending, commit, gating, questions, streamed
from .announce import announce, published
from .entry import entries, random_uid
from .plan import sender_of


class Delivery(msgspec.Struct, frozen=True):
    """The result of messages that were published together: the place of each copy, and the unknown targets."""

    published: list[Published]
    unknown_targets: list[str]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How messages are published. The fields are the options of ``django.publish_frames``.

    ``deadline`` is when gates have taken too long, in monotonic seconds.
    """

    durable: bool
    create: bool
    may_wait: bool
    new_sender: bool
    deadline: float


class Batch:
    """Planned messages on their way through the caller's thread. ``routes`` are those of ``frames_in``, in order."""

    def __init__(self, frames_in: Sequence[Inbound], routes: Sequence[Route], actor: Actor, terms: Terms) -> None:
        if any(inbound.append is not None for inbound in frames_in):
            routes = streamed.placed(frames_in, routes, actor)
        if any(inbound.reply is not None for inbound in frames_in):
            routes = questions.placed(frames_in, routes, actor)
        self._frames, self._actor, self._terms = frames_in, actor, terms
        self._late = not terms.durable and connection.in_atomic_block
        if self._late:
            hops.check()
        self._there, self._unknown = _targets(routes, actor.client_id if terms.new_sender else "")
        for inbound, planned in zip(frames_in, routes, strict=True):
            if inbound.ask is not None and planned.targets:
                questions.reach(planned.targets, questions.responders(inbound.ask, planned.targets, self._there))
        self._addresses = [planned.addresses(self._unknown) for planned in routes]
        self._wanted = list(dict.fromkeys(address for some in self._addresses for address in some))
        if not self._wanted:
            raise target_not_found(self._unknown, len(self._unknown))
        self._refs = find_all(set(self._wanted))
        # A hidden channel takes the way of a missing one, so that both are refused after the same work.
        self._missing = [
            address
            for address in self._wanted
            if (ref := self._refs.get(address)) is None
            or (ref.private and not can(actor, PUBLISH, address, private=True))
        ]
        #: The messages that stand before gates.
        self._gated: list[gating.Candidate] = []

    def publish(self) -> Delivery:
        """Publish the messages. Raises ``BusError``, and errors of the database."""
        if not self._actor.system and any(map(gates_of, self._wanted)):
            made = self._through_gates()
        else:
            several = sum(map(len, self._addresses)) > 1
            together = self._missing or self._terms.new_sender or (several and not self._late)
            # One message to an existing channel only needs the transaction of the log itself, which waits for no lock of ours.
            with commit.one_transaction() if together else commit.outcome_told():
                self._prepare()
                made = self._write()
        return Delivery(
            [published(entry, unproven=_is_unproven(entry.context, self._there)) for entry in made], self._unknown
        )

    def _through_gates(self) -> list[Entry]:
        # New channels are made before: gates may take long, and the rows would be locked until the end.
        with commit.one_transaction() if self._missing else nullcontext():
            self._prepare()
        return gating.in_transaction(self._write, self._gated, deadline=self._terms.deadline)

    def _prepare(self) -> None:
        """Make the missing channels, check the rights, and find the messages that are amended."""
        actor = self._actor
        for address in self._missing:
            self._refs[address], _ = ensure(address, actor, create=self._terms.create, action=PUBLISH)
            if self._refs[address].private:
                # At once, as for a missing channel: the rest of a batch must not cost more after a hidden one.
                require(actor, PUBLISH, address, private=True)
        for address in self._wanted:
            require(actor, PUBLISH, address, private=self._refs[address].private)
        amending.look_up(self._frames, self._addresses, self._refs, actor)

    def _write(self) -> list[Entry]:
        """Make the entries and write them. Gates decide before."""
        made = self._entries()
        if self._terms.may_wait and dispatch.overloaded() and any(entry.context.ephemeral for entry in made):
            raise BusError(ErrorCode.BUSY, retry_after=0.1)
        commit.foresee_repeats(made)
        if self._gated:
            gating.pass_gates(self._gated)
        if self._terms.new_sender:
            take_id(self._actor)
        kept = [entry for entry in made if not entry.context.ephemeral and not entry.swallowed]
        if kept and not self._late:
            commit.append(kept)
        if self._gated:
            gating.settle(self._gated)
        transaction.on_commit(partial(_after_commit, made, kept if self._late else []))
        return made

    def _entries(self) -> list[Entry]:
        sender, actor = sender_of(self._actor), self._actor
        made: list[Entry] = []
        self._gated.clear()
        for index, (inbound, some) in enumerate(zip(self._frames, self._addresses, strict=True)):
            refs = [self._refs[address] for address in some]
            copies = entries(inbound, refs, sender, random_uid, actor=actor, connected=False)
            made += copies
            if gating.concerns(inbound, actor):
                place = index if len(self._frames) > 1 else None
                self._gated += [
                    gating.Candidate(entry, inbound, actor, connected=False, index=place)
                    for entry in copies
                    if entry.context.gated
                ]
        return made


def _targets(routes: Sequence[Route], also: str) -> tuple[Mapping[str, bool], list[str]]:
    """The known targets of private messages (the value says whether they are unproven), and the unknown ones.

    ``also`` is the client id that the sender is about to take; it counts as known.
    """
    targets = list(dict.fromkeys(target for planned in routes for target in planned.targets or ()))
    if not targets:
        return {}, []
    there = {also: False, **known(targets)}
    return there, [target for target in targets if target not in there]


def _is_unproven(ref: ChannelRef, there: Mapping[str, bool]) -> bool:
    return ref.address.is_inbox and there.get(ref.address.channel, False)


def _after_commit(made: Sequence[Entry], late: Sequence[Entry]) -> None:
    if late:
        commit.append_late(late)
    stamp = (wire_time(timezone.now()) or "").encode()
    for entry in made:
        if entry.context.ephemeral and not entry.duplicate:
            try:
                commit.pass_by(entry, commit.passed(), stamp)
            except BusError as problem:
                entry.error = problem
                commit.log_refused(entry, problem)
    announce([entry for entry in made if not entry.swallowed])
