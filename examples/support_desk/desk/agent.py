"""The agent: it drafts an answer, asks people, and drafts again with what they say."""

from __future__ import annotations

from typing import Any

import arqonbus
from desk.places import ANSWER, APPROVALS

#: What a person may change in a draft.
SCHEMA = {
    "type": "object",
    "properties": {
        "customer": {"type": "string"},
        "question": {"type": "string"},
        "answer": {"type": "string", "minLength": 1},
    },
    "required": ["customer", "question", "answer"],
    "additionalProperties": False,
}
#: How often the agent drafts one answer.
DRAFTS = 5


def draft(question: dict[str, Any], advice: str) -> str:
    """Draft an answer. A real agent asks its model here, with the ``advice`` of the person who read the last draft."""
    answer = f"Dear {question['customer']}, thank you for your question. We are looking into it."
    return f"{answer} {advice}" if advice else answer


async def settle(bus: arqonbus.Bus, job: arqonbus.Job) -> dict[str, Any]:
    """Get a decision about an answer to the question of a job. The key makes it the same decision after a restart."""
    question, advice = job.payload, ""
    for attempt in range(1, DRAFTS + 1):
        decision = await bus.decide_by_human(
            APPROVALS,
            key=f"{job.id}/{attempt}",
            title=f"Answer {question['customer']}?",
            action=ANSWER,
            args={**question, "answer": draft(question, advice)},
            allow=["approve", "edit", "respond", "reject"],
            schema=SCHEMA,
        )
        if decision.state != "responded":
            break
        advice = decision.comment
    return {"decision": decision.id, "state": decision.state}
