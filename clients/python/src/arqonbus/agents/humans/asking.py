"""Several decisions at once: what the adapters of the frameworks share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from ...bus import Bus
from ...decisions import Choice, Decision, OnExpiry
from ..plain import plain

#: The longest title that the server takes.
TITLE = 200


class Options(TypedDict, total=False):
    """What the adapters hand on to ``bus.decide_by_human``, and how they name a decision."""

    expires: float
    on_expiry: OnExpiry
    timeout: float | None
    title: Callable[[str, dict[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Call:
    """One thing that a run waits for."""

    id: str
    action: str
    args: dict[str, Any] = field(default_factory=dict)
    allow: tuple[Choice, ...] = ("approve", "reject")
    schema: dict[str, Any] | None = None
    title: str = ""


async def ask(bus: Bus, address: str, calls: Iterable[Call], options: Options) -> dict[str, Decision]:
    """Ask for all decisions at once, and return them by the ids of their calls, once people made all of them.

    Answers that an action may follow are consumed. Raises ``AlreadyUsed`` if another process used one in between.
    """
    given = dict(options)
    titled: Callable[[str, dict[str, Any]], str] = given.pop("title", None) or _titled  # type: ignore[assignment]

    async def one(call: Call) -> tuple[str, Decision]:
        args: dict[str, Any] = plain(call.args)
        title = call.title or titled(call.action, args)
        decision = await bus.decide_by_human(
            address, key=call.id, title=title[:TITLE], action=call.action, args=args, allow=call.allow,
            schema=call.schema, **given,  # type: ignore[arg-type]
        )  # fmt: skip
        return call.id, decision

    decisions = dict(await asyncio.gather(*(one(call) for call in calls)))
    for decision in decisions.values():
        if decision.yes or decision.state == "responded":
            await bus.consume_decision(decision)
    return decisions


def _titled(action: str, args: dict[str, Any]) -> str:
    return f"{action}({', '.join(args)})"


def arguments(value: object) -> dict[str, Any]:
    """Return the arguments of a call: an object, or its JSON text as a model wrote it."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError:
            return {"text": value}
    return dict(value) if isinstance(value, Mapping) else {} if value is None else {"value": value}


def refused(decision: Decision) -> str:
    """Return what the model reads in place of the result of its call."""
    if decision.state == "responded":
        return decision.comment
    return f"The call was {decision.state}." + (f" {decision.comment}" if decision.comment else "")
