"""The methods of a bus for decisions, as their asker and as their decider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import timedelta
from typing import Any

from .backoff import Backoff
from .decisions import Choice, Decision, OnExpiry
from .errors import ConnectionLost, RejectedBefore, ServerError
from .messages import new_id, split_address
from .publishing import Publishing
from .requests import within

#: The largest page of decisions.
PAGE = 100
#: The longest wait of one request, in seconds. The server allows no longer one.
WAIT = 25.0


class Deciding(Publishing):
    """Decisions of people."""

    async def decide_by_human(
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
        """Ask people to decide, and wait until one of them has. Returns the decision: look at ``decision.yes``.

        It waits over reconnects and restarts of the server. A program that was restarted calls it again with the same ``key``
        and ``args``, and gets the same decision, also one that was made while it was away. A "no" within the last hour is
        the answer again. Call :meth:`consume_decision` before the action, so that it is done once.

        The other arguments are those of :meth:`request_decision`. Raises ``TimeoutError`` after ``timeout`` seconds; the decision
        stays pending. Raises ``Forbidden``, ``ChannelNotFound``, ``ValidationFailed`` …
        """
        async with within(timeout, f"Nobody decided {title!r} within {timeout or 0:g} s."):
            try:
                asked = await self.request_decision(
                    address, key=key, title=title, action=action, args=args, allow=allow, schema=schema,
                    expires=expires, on_expiry=on_expiry,
                )  # fmt: skip
            except RejectedBefore as problem:
                if problem.decision is None:
                    raise
                return await self.await_decision(problem.decision, wait=0)
            return asked if not asked.pending else await self._decided(asked.id)

    async def _decided(self, decision: str) -> Decision:
        """Wait for the end of a decision, also over broken connections."""
        pause = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.wait_connected()
                found = await self.await_decision(decision, wait=WAIT)
            except (ConnectionLost, TimeoutError):
                self._check()
                await asyncio.sleep(pause.pause())
                continue
            except ServerError as problem:
                if not problem.retry:
                    raise
                await asyncio.sleep(pause.pause(problem.retry_after))
                continue
            if not found.pending:
                return found
            if loop.time() - began > 1:
                pause.reset()
            else:
                await asyncio.sleep(pause.pause())  # A server that stops answers at once.

    async def request_decision(
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
        """Ask the people of a channel to decide (right ``publish``), and return the pending decision at once.

        ``title`` is what they read, and ``action`` with ``args`` is what you will do. ``schema`` is a JSON schema for args that
        a person edits. After ``expires`` (seconds, or a ``timedelta``) the decision ends as ``on_expiry`` says.

        ``key`` names it among your own: the same key with the same action and args gives the same decision, until it is consumed.
        Raises ``RejectedBefore`` if a person said no to them within the last hour.
        """
        room, channel = split_address(address)
        parameters: dict[str, Any] = {
            "channel": f"{room}:{channel}",
            "key": key,
            "title": title,
            "action": action,
            "args": dict(args or {}),
            "allow": list(allow),
            "expires": expires.total_seconds() if isinstance(expires, timedelta) else expires,
            "on_expiry": on_expiry,
        }
        if schema is not None:
            parameters["schema"] = dict(schema)
        return Decision.of(await self._command("request_decision", parameters))

    async def await_decision(self, decision: str | Decision, *, wait: float = WAIT) -> Decision:
        """Return a decision, once it has ended, or as it is after ``wait`` seconds (at most 25). Raises ``DecisionNotFound``."""
        parameters = {"decision": named(decision), "wait": wait}
        frame = {"type": "command", "id": new_id(), "command": "await_decision", "parameters": parameters}
        answer = await self._request(frame, repeat=True, timeout=wait + self._timeout)
        return Decision.of(answer["result"])

    async def decide(
        self, decision: str | Decision, answer: Choice, *, args: Mapping[str, Any] | None = None, comment: str = ""
    ) -> Decision:
        """Decide (right ``decide``). The first answer counts; your own repeat gives the same result.

        ``edit`` needs ``args``, and ``respond`` needs a ``comment``. Raises ``DecisionEnded`` if somebody else was first, and
        ``Forbidden`` for your own questions.
        """
        parameters: dict[str, Any] = {"decision": named(decision), "answer": answer}
        if args is not None:
            parameters["args"] = dict(args)
        if comment:
            parameters["comment"] = comment
        return Decision.of(await self._command("decide", parameters))

    async def cancel_decision(self, decision: str | Decision) -> Decision:
        """Withdraw your question, or any one with the right ``manage``. Raises ``DecisionEnded``, ``DecisionNotFound``."""
        return Decision.of(await self._command("cancel_decision", {"decision": named(decision)}))

    async def consume_decision(self, decision: str | Decision) -> Decision:
        """Use a decision of your own, once: call it before you do the action.

        Raises ``AlreadyUsed`` the second time, and ``ValidationFailed`` for a decision that is no "yes" and no response. After
        ``ConnectionLost`` you do not know whether it was used.
        """
        # A repeat would be refused as the second use.
        return Decision.of(await self._command("consume_decision", {"decision": named(decision)}, repeat=False))

    async def list_decisions(
        self,
        address: str | None = None,
        *,
        room: str | None = None,
        state: str | None = None,
        mine: bool = False,
        to_decide: bool = False,
    ) -> AsyncIterator[Decision]:
        """Yield the decisions that you may see, the newest first, over all pages.

        They are those of a channel, of a room, or of all. ``mine`` are those that you asked for, and ``to_decide`` the pending
        ones that you may decide.
        """
        parameters: dict[str, Any] = {"limit": PAGE}
        if address is not None:
            parameters["channel"] = ":".join(split_address(address))
        if room is not None:
            parameters["room"] = room
        if state is not None:
            parameters["state"] = state
        if mine:
            parameters["mine"] = True
        if to_decide:
            parameters["to_decide"] = True
        while True:
            page = await self._command("list_decisions", parameters)
            for row in page["decisions"]:
                yield Decision.of(row)
            if not page.get("next"):
                return
            parameters["after"] = page["next"]


def named(decision: str | Decision) -> str:
    """Return the name of a decision."""
    return decision if isinstance(decision, str) else decision.id
