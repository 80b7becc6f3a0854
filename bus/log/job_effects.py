"""What an entry does to a work channel: its message becomes a job."""

from __future__ import annotations

from datetime import datetime

from .effects import Effect
from .question_effects import Asking


class NewJob(Effect):
    """The entry's message becomes a job of its channel, which a worker gets at ``due_at`` at the earliest; None: at once.

    ``question`` is the question that the message asks besides. Its reply is the result of the job.
    """

    __slots__ = ("due_at", "question")

    def __init__(self, due_at: datetime | None = None, question: Asking | None = None) -> None:
        super().__init__()
        self.due_at = due_at
        self.question = question
