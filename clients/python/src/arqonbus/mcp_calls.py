"""The MCP tools of the server on standard streams. Each does what the tool of that name does at ``POST /mcp``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .errors import AskFailed, BusClosed
from .mcp_agent import Agent, shown, told
from .mcp_table import Refused
from .messages import Message, new_id

Result = dict[str, Any]

#: Members that one answer names.
MOST = 200
#: What a model does not need of a member: its other channels cost more than they say.
_LEFT_OUT = frozenset({"channels", "personality"})
#: Questions whose answers are kept for a later call.
KEPT = 1000


class Calls:
    """The tools, by name. The arguments are checked already."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._questions: dict[str, asyncio.Task[Message]] = {}
        # Who was asked, by the names of the questions.
        self._asked: dict[str, str] = {}

    def find(self, name: str) -> Callable[..., Awaitable[Result]]:
        """Return the function of a tool."""
        found: Callable[..., Awaitable[Result]] = getattr(self, name)
        return found

    # --- messages ---------------------------------------------------------------------------------------------------------

    async def publish(
        self,
        address: str | None = None,
        text: str | None = None,
        payload: Result | None = None,
        to: list[str] | None = None,
        id: str | None = None,
        deliver_at: str | None = None,
    ) -> Result:
        """Publish a message."""
        if text is None and payload is None:
            raise _wrong("text", "Give `text`, `payload`, or both.")
        if (address is None) == (to is None):
            raise _wrong("address", "Give `address`, or `to` for a private message.")
        if address == "inbox":
            raise _wrong("address", "An inbox gets private messages. Give `to`.")
        bus = await self._agent.bus()
        if to is not None:
            receipt = await told(bus.private(to, text, payload=payload, id=id))
        else:
            receipt = await told(bus.publish(address, text, payload=payload, id=id, deliver_at=deliver_at))
        result: Result = {"id": receipt.id, "address": f"{receipt.room}:{receipt.channel}", "seq": receipt.seq}
        if not receipt.kept:
            result["kept"] = False
        return {**result, "duplicate": True} if receipt.duplicate else result

    async def history(
        self,
        address: str,
        limit: int,
        before_seq: int | None = None,
        after_seq: int | None = None,
        sender: str | None = None,
    ) -> Result:
        """Return past messages."""
        bus, place = await self._agent.bus(), await self._agent.address(address)
        try:
            page = await told(bus.history_page(place, limit=limit, before=before_seq, after=after_seq, sender=sender))
        except Refused as problem:
            # The tools know channels only, so a room that is missing is a channel that is missing.
            if problem.code != "ROOM_NOT_FOUND":
                raise
            raise Refused("CHANNEL_NOT_FOUND", problem.message, problem.details) from None
        return {"messages": [shown(message) for message in page.messages], "more": page.next is not None}

    async def wait_for_message(
        self,
        address: str,
        timeout_seconds: float,
        mark: int | None = None,
        sender: str | None = None,
        contains: str | None = None,
    ) -> Result:
        """Return the first message after the mark."""
        heard = await self._agent.hear(address, create=False)
        if mark is not None:
            await self._agent.mark(address, mark)
        until = asyncio.get_running_loop().time() + timeout_seconds
        skipped = 0
        while True:
            try:
                message = await told(heard.first(until))
            except BusClosed:
                raise Refused("FORBIDDEN", f"The subscription of {address} has ended.") from None
            if message is None:
                return {"message": None, "mark": heard.position, "skipped": skipped}
            if sender in (None, message.sender) and (contains is None or contains in message.text):
                result: Result = {"message": shown(message), "mark": message.seq, "skipped": skipped}
                return {**result, "after_gap": True} if message.after_gap else result
            heard.passed(message)
            skipped += 1

    async def mark(self, address: str, seq: int, back: bool = False) -> Result:
        """Move a mark."""
        return await self._agent.mark(address, seq, back=back)

    async def append(
        self,
        text: str | None = None,
        address: str | None = None,
        of: str | None = None,
        n: int | None = None,
        end: str | None = None,
        payload: Result | None = None,
        id: str | None = None,
        took: list[str] | None = None,
        adopt: bool = False,
        token: str | None = None,
    ) -> Result:
        """Write an answer that grows. This connection proves whose it is, so it needs no token."""
        if (address is None) == (of is None):
            raise _wrong("address", "Give `address` to open an answer, or `of` to go on with one.")
        bus = await self._agent.bus()
        stream, steers, pending = await told(
            self._agent.answers.append(
                bus, address=address, of=of, text=text, end=end, payload=payload, adopt=adopt, n=n, id=id
            )
        )
        result: Result = {
            "of": stream.of,
            "state": stream.state,
            "parts": stream.have,
            "stop_requested": bool(stream.stop_requested),
            "steers": [shown(message) for message in steers],
        }
        return {**result, "pending": True} if pending else result

    # --- people -----------------------------------------------------------------------------------------------------------

    async def join(self, address: str, since_seq: int | None = None) -> Result:
        """Join a channel."""
        if since_seq is not None:
            await self._agent.hear(address)
            await self._agent.mark(address, since_seq, back=True)
        heard, bus = await self._agent.hear(address), await self._agent.bus()
        place = heard.subscription.address
        if not heard.subscription.joinable:
            return {"address": place, "you": bus.client_id}
        info = await told(bus.channel_info(place))
        members = [member["client_id"] for member in info["participants"]]
        return {"address": place, "you": bus.client_id, "head_seq": info["seq"], "participants": members}

    async def who_is_there(self, address: str) -> Result:
        """List the members of a channel."""
        bus = await self._agent.bus()
        page = await told(bus._command("list_clients", {"channel": address, "limit": MOST}))
        members = [{key: row[key] for key in row if key not in _LEFT_OUT} for row in page["clients"]]
        result: Result = {"address": address, "count": len(members), "participants": members}
        return result if page["next"] is None else {**result, "more": True}

    async def set_status(
        self,
        ttl: float,
        status: str | None = None,
        task: str | None = None,
        text: str | None = None,
        tokens: int | None = None,
        address: str | None = None,
    ) -> Result:
        """Tell what the agent does."""
        if address is not None:
            await self._agent.hear(address)
        bus = await self._agent.bus()
        kept = await told(bus.set_status(status, task=task, text=text, tokens=tokens, ttl=ttl))
        return {"client_id": bus.client_id, "status": kept}

    # --- work -------------------------------------------------------------------------------------------------------------

    async def claim(self, address: str, max: int, timeout_seconds: float, have: list[str] | None = None) -> Result:
        """Claim jobs. The bus renews their leases while this connection lives."""
        parameters: Result = {"channel": address, "max": max, "wait": timeout_seconds}
        if have is not None:
            parameters["have"] = have
        bus = await self._agent.bus()
        timeout = timeout_seconds + bus._timeout
        answer = await told(bus._command("claim", parameters, repeat=False, timeout=timeout))
        return {**answer, "claims": [{**row, "message": shown(Message.of(row["message"]))} for row in answer["claims"]]}

    async def renew(self, claim: str) -> Result:
        """Begin a lease anew."""
        return await self._command("renew", claim=claim)

    async def done(self, claim: str, result: Any = None) -> Result:
        """End a job as done."""
        return await self._command("done", claim=claim, result=result)

    async def release(self, claim: str, delay: float = 0.0, error: str | None = None) -> Result:
        """Give a job back."""
        return await self._command("release", claim=claim, delay=delay, error=error)

    async def reject(self, claim: str, error: str | None = None) -> Result:
        """Declare a job dead."""
        return await self._command("reject", claim=claim, error=error)

    async def _command(self, name: str, **parameters: Any) -> Result:
        given = {key: value for key, value in parameters.items() if value is not None}
        return await told((await self._agent.bus())._command(name, given))

    # --- questions --------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        timeout_seconds: float,
        deadline: float,
        durable: bool,
        to: str | None = None,
        address: str | None = None,
        text: str | None = None,
        payload: Result | None = None,
        id: str | None = None,
        question: str | None = None,
    ) -> Result:
        """Ask, or go on to wait for an answer. A question of an earlier process is asked again with its ``id``."""
        if question is None:
            target = to if to is not None else address
            if (to is None) == (address is None) or target is None:
                raise _wrong("to", "Give `to` (a client_id), `address` (a work channel), or `question`.")
            if text is None and payload is None:
                raise _wrong("text", "Give `text`, `payload`, or both.")
            question = await self._begin(target, text, payload, deadline, durable, id or new_id())
        task = self._questions.get(question)
        if task is None:
            raise Refused("QUESTION_NOT_FOUND", "This process asked no such question.")
        await asyncio.wait({task}, timeout=timeout_seconds)
        if not task.done():
            return {"state": "open", "question": question, "to": self._asked[question]}
        try:
            reply = await told(asyncio.shield(task))
        except AskFailed as problem:
            reply = problem.reply
        return {"state": "answered", "question": question, "to": self._asked[question], "answer": shown(reply)}

    async def _begin(
        self, target: str, text: str | None, payload: Result | None, deadline: float, durable: bool, id: str
    ) -> str:
        """Ask, and return the name of the question."""
        bus = await self._agent.bus()
        question = id if id.startswith("arq_") else f"arq_{id}"
        known = self._questions.get(question)
        if known is None or (known.done() and known.exception() is not None):
            work = bus.ask(target, text, payload=payload, timeout=deadline, durable=durable, id=id)
            self._questions[question] = asyncio.ensure_future(work)
            self._asked[question] = target
            for old in [name for name, task in self._questions.items() if task.done()][:-KEPT]:
                del self._questions[old], self._asked[old]
        return question

    async def reply(
        self, to_message: str, text: str | None = None, payload: Result | None = None, error: str | None = None
    ) -> Result:
        """Answer a question."""
        if text is None and payload is None and error is None:
            raise _wrong("text", "Give `text`, `payload` or `error`.")
        bus = await self._agent.bus()
        receipt = await told(bus.reply(to_message, payload, message=text, error=error))
        result: Result = {"to_message": to_message, "id": receipt.id}
        return {**result, "duplicate": True} if receipt.duplicate else result

    # --- decisions --------------------------------------------------------------------------------------------------------

    async def request_decision(self, address: str, timeout_seconds: float, **given: Any) -> Result:
        """Ask people, and wait for the answer."""
        asked = await self._command("request_decision", channel=address, **given)
        return await self.await_decision(asked["decision"], timeout_seconds) if asked["state"] == "pending" else asked

    async def await_decision(self, decision: str, timeout_seconds: float) -> Result:
        """Wait for the end of a decision."""
        bus = await self._agent.bus()
        return (await told(bus.await_decision(decision, wait=timeout_seconds))).raw

    async def consume_decision(self, decision: str) -> Result:
        """Use the answer, once."""
        return (await told((await self._agent.bus()).consume_decision(decision))).raw

    async def cancel_decision(self, decision: str) -> Result:
        """Withdraw a question."""
        return await self._command("cancel_decision", decision=decision)

    async def list_decisions(
        self,
        limit: int,
        address: str | None = None,
        state: str | None = None,
        mine: bool = False,
        to_decide: bool = False,
        after: str | None = None,
    ) -> Result:
        """Return a page of decisions."""
        return await self._command(
            "list_decisions", channel=address, state=state, mine=mine, to_decide=to_decide, limit=limit, after=after
        )

    async def decide(self, decision: str, answer: str, args: Result | None = None, comment: str = "") -> Result:
        """Decide for somebody else."""
        return await self._command("decide", decision=decision, answer=answer, args=args, comment=comment)

    def close(self) -> None:
        """End the questions that wait."""
        for task in self._questions.values():
            task.cancel()


def _wrong(field: str, message: str) -> Refused:
    return Refused("VALIDATION_ERROR", message, [{"field": field, "message": message}])
