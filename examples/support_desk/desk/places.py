"""The channels of the desk, and the name of what is approved."""

from __future__ import annotations

#: A work channel: each question of a customer is a job for one agent.
QUESTIONS = "desk:questions"
#: Where agents ask people.
APPROVALS = "desk:approvals"
#: The action of a decision.
ANSWER = "answer_customer"
