"""Interrupts of LangGraph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from ...bus import Bus
from ...decisions import Decision
from ..plain import plain
from .asking import Call, Options, arguments, ask


async def for_langgraph(
    bus: Bus, address: str, interrupts: Iterable[Any], **options: Unpack[Options]
) -> dict[str, dict[str, Any]]:
    """Ask people about the interrupts of a graph: ``result["__interrupt__"]`` or ``state.interrupts``.

    A node says what it asks for: ``interrupt({"action": "refund", "args": {"amount": 20}, "title": "Refund 20?", "allow":
    ["approve", "edit", "reject"], "schema": …})``. Any other value is shown as it is. Return the value of ``Command(resume=…)``:
    ``interrupt()`` then returns ``{"state", "answer", "args", "comment", "by"}``.
    """
    decided = await ask(bus, address, [_call(interrupt) for interrupt in interrupts], options)
    return {call_id: _told(decision) for call_id, decision in decided.items()}


def _call(interrupt: Any) -> Call:
    value, schema = interrupt.value, interrupt.response_schema
    if isinstance(value, Mapping) and isinstance(value.get("action"), str):
        allow = tuple(value.get("allow") or ("approve", "reject"))
        args = arguments(value.get("args"))
        return Call(
            interrupt.id,
            value["action"],
            args,
            allow,
            value.get("schema") or _schema(schema),
            str(value.get("title") or ""),
        )
    title = value if isinstance(value, str) else ""
    return Call(
        interrupt.id,
        "interrupt",
        arguments(plain(value)) if not title else {},
        ("approve", "reject", "respond"),
        None,
        title,
    )


def _schema(schema: object) -> dict[str, Any] | None:
    return dict(schema) if isinstance(schema, Mapping) else None


def _told(decision: Decision) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in ("state", "answer", "args", "comment", "by")}
