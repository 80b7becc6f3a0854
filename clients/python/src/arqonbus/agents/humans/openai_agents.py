"""Interruptions of OpenAI Agents: calls of tools with ``needs_approval``."""

from __future__ import annotations

from typing import Any, Unpack

from ...bus import Bus
from .asking import Call, Options, arguments, ask, refused


async def for_openai_agents(bus: Bus, address: str, result: Any, **options: Unpack[Options]) -> Any:
    """Ask people about the interruptions of a run. Return its ``RunState``, with which ``Runner.run(agent, state)`` goes on.

    ``result`` is the result of a run, or a ``RunState`` that was kept (``state.to_string()``) and read again. This SDK cannot
    change the arguments of a call, so people approve, reject, or answer with words for the model.
    """
    state = result.to_state() if hasattr(result, "to_state") else result
    items = state.get_interruptions()
    calls = [
        Call(item.call_id, item.name or "tool", arguments(item.arguments), ("approve", "reject", "respond"))
        for item in items
    ]
    decided = await ask(bus, address, calls, options)
    for item in items:
        decision = decided[item.call_id]
        if decision.yes:
            state.approve(item)
        else:
            state.reject(item, rejection_message=refused(decision))
    return state
