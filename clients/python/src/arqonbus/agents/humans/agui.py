"""Interrupts of AG-UI: a run that ends with the outcome ``interrupt``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from ...bus import Bus
from ...decisions import Choice, Decision
from .asking import Call, Options, arguments, ask


async def for_agui(bus: Bus, address: str, events: Iterable[Any], **options: Unpack[Options]) -> list[dict[str, Any]]:
    """Ask people about the interrupts of a run. ``events`` are all events of the run, as dicts or as objects of ``ag_ui``.

    Return the ``resume`` of the next run's input. A run that was not interrupted has none. An approval of a tool call is
    answered as AG-UI says it: ``{"approved", "editedArgs", "reason"}``. For an interrupt with another schema, people write an
    object of it.
    """
    names: dict[str, str] = {}
    texts: dict[str, str] = {}
    interrupts: list[dict[str, Any]] = []
    for event in events:
        part = event if isinstance(event, dict) else event.model_dump(mode="json", by_alias=True, exclude_none=True)
        if part["type"] == "TOOL_CALL_START":
            names[part["toolCallId"]] = part["toolCallName"]
        elif part["type"] == "TOOL_CALL_ARGS":
            texts[part["toolCallId"]] = texts.get(part["toolCallId"], "") + part["delta"]
        elif part["type"] == "RUN_FINISHED":
            interrupts = (part.get("outcome") or {}).get("interrupts") or []
    calls = [_call(each, names, texts) for each in interrupts]
    decided = await ask(bus, address, calls, options)
    return [_entry(each, decided[each["id"]]) for each in interrupts]


def _call(interrupt: dict[str, Any], names: dict[str, str], texts: dict[str, str]) -> Call:
    tool = str(interrupt.get("toolCallId") or "")
    fields = _fields(interrupt)
    if "approved" not in fields:
        return Call(interrupt["id"], interrupt["reason"], {}, ("edit", "reject"), interrupt.get("responseSchema"),
                    interrupt.get("message") or "")  # fmt: skip
    allow: tuple[Choice, ...] = ("approve", "edit", "reject") if "editedArgs" in fields else ("approve", "reject")
    return Call(interrupt["id"], names.get(tool) or interrupt["reason"], arguments(texts.get(tool)), allow)


def _fields(interrupt: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the answer. Without a schema it is an approval."""
    schema = interrupt.get("responseSchema") or {}
    return schema.get("properties") or ({} if schema else {"approved": {}})


def _entry(interrupt: dict[str, Any], decision: Decision) -> dict[str, Any]:
    if decision.state == "cancelled":
        return {"interruptId": interrupt["id"], "status": "cancelled"}
    payload: dict[str, Any]
    if "approved" in _fields(interrupt):
        payload = {"approved": decision.yes}
        if decision.state == "edited":
            payload["editedArgs"] = decision.args
        elif decision.comment:
            payload["reason"] = decision.comment
    elif decision.yes:
        payload = decision.args
    else:
        return {"interruptId": interrupt["id"], "status": "cancelled"}
    return {"interruptId": interrupt["id"], "status": "resolved", "payload": payload}
