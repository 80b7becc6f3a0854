"""Decisions of people in the blocking client. ``sync`` has the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from . import bus as buses
from .blocking import Loop
from .deciding import WAIT
from .decisions import Choice, Decision, OnExpiry


class Deciding:
    """Decisions of people."""

    _loop: Loop
    _inner: buses.Bus

    def decide_by_human(
        self,
        address: str,
        *,
        key: str,
        title: str,
        action: str,
        args: Mapping[str, Any] | None = None,
        allow: Iterable[Choice] = ("approve", "reject"),
        schema: Mapping[str, Any] | None = None,
        expires: float | timedelta = 3600.0,
        on_expiry: OnExpiry = "reject",
        timeout: float | None = None,
    ) -> Decision:
        """Ask people to decide, and wait until one of them has. See :meth:`arqonbus.Bus.decide_by_human`."""
        return self._loop.call(
            self._inner.decide_by_human(
                address,
                key=key,
                title=title,
                action=action,
                args=args,
                allow=allow,
                schema=schema,
                expires=expires,
                on_expiry=on_expiry,
                timeout=timeout,
            )
        )

    def request_decision(
        self,
        address: str,
        *,
        key: str,
        title: str,
        action: str,
        args: Mapping[str, Any] | None = None,
        allow: Iterable[Choice] = ("approve", "reject"),
        schema: Mapping[str, Any] | None = None,
        expires: float | timedelta = 3600.0,
        on_expiry: OnExpiry = "reject",
    ) -> Decision:
        """Ask the people of a channel to decide. See :meth:`arqonbus.Bus.request_decision`."""
        return self._loop.call(
            self._inner.request_decision(
                address,
                key=key,
                title=title,
                action=action,
                args=args,
                allow=allow,
                schema=schema,
                expires=expires,
                on_expiry=on_expiry,
            )
        )

    def await_decision(self, decision: str | Decision, *, wait: float = WAIT) -> Decision:
        """Return a decision once it has ended, or as it is after ``wait`` seconds. See :meth:`arqonbus.Bus.await_decision`."""
        return self._loop.call(self._inner.await_decision(decision, wait=wait))

    def decide(
        self, decision: str | Decision, answer: Choice, *, args: Mapping[str, Any] | None = None, comment: str = ""
    ) -> Decision:
        """Decide. The first answer counts. See :meth:`arqonbus.Bus.decide`."""
        return self._loop.call(self._inner.decide(decision, answer, args=args, comment=comment))

    def cancel_decision(self, decision: str | Decision) -> Decision:
        """Withdraw a question. See :meth:`arqonbus.Bus.cancel_decision`."""
        return self._loop.call(self._inner.cancel_decision(decision))

    def consume_decision(self, decision: str | Decision) -> Decision:
        """Use a decision of your own, once. See :meth:`arqonbus.Bus.consume_decision`."""
        return self._loop.call(self._inner.consume_decision(decision))

    def list_decisions(
        self,
        address: str | None = None,
        *,
        room: str | None = None,
        state: str | None = None,
        mine: bool = False,
        to_decide: bool = False,
    ) -> Iterator[Decision]:
        """Yield the decisions that you may see, the newest first. See :meth:`arqonbus.Bus.list_decisions`."""
        return self._loop.each(
            self._inner.list_decisions(address, room=room, state=state, mine=mine, to_decide=to_decide)
        )
