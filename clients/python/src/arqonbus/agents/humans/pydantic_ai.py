"""Deferred tools of Pydantic AI."""

from __future__ import annotations

from typing import Any, Unpack

from ...bus import Bus
from .asking import Call, Options, arguments, ask, refused


async def for_pydantic_ai(bus: Bus, address: str, requests: Any, **options: Unpack[Options]) -> Any:
    """Ask people about a run's ``DeferredToolRequests``. Return its ``DeferredToolResults``.

    A call that needs an approval may be approved, edited, rejected, or answered with words for the model. Only words answer a
    question of a tool (``CallDeferred(kind="question")``). Other deferred calls have results of their own, and are left to you.
    """
    from pydantic_ai import ToolApproved, ToolDenied

    questions = [call for call in requests.calls if requests.kind(call.tool_call_id) == "question"]
    calls = [
        *(Call(call.tool_call_id, call.tool_name, arguments(call.args), ("approve", "edit", "reject", "respond"))
          for call in requests.approvals),
        *(Call(call.tool_call_id, call.tool_name, arguments(call.args), ("respond", "reject")) for call in questions),
    ]  # fmt: skip
    decided = await ask(bus, address, calls, options)

    def approval(call_id: str) -> Any:
        decision = decided[call_id]
        if not decision.yes:
            return ToolDenied(refused(decision))
        return ToolApproved(override_args=decision.args if decision.state == "edited" else None)

    return requests.build_results(
        approvals={call.tool_call_id: approval(call.tool_call_id) for call in requests.approvals},
        calls={call.tool_call_id: refused(decided[call.tool_call_id]) for call in questions},
        answered_by={call_id: decision.by for call_id, decision in decided.items() if decision.by},
    )
