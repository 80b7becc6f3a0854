"""What an entry does to a question: its message asks it, or answers it.

The caller gives the input. The log decides in the entry's transaction (``log.question_batch``).
"""

from __future__ import annotations

from .effects import Effect


class Asking(Effect):
    """The entry's message asks a question, whose name is the entry's ``uid``.

    ``to`` is the client that may reply; empty for a work channel. ``client_id`` and ``principal`` are the asker's. The
    question ends ``timeout`` seconds after its transaction. ``correlation``, ``request_id`` and ``trace`` are kept for the
    reply, and for the error at the deadline. ``most`` is how many open questions the asker may have; 0 means no limit.
    """

    __slots__ = ("client_id", "correlation", "most", "principal", "request_id", "timeout", "to", "trace")

    def __init__(
        self,
        to: str,
        client_id: str,
        principal: str,
        *,
        timeout: float,
        correlation: str,
        request_id: str = "",
        trace: str = "",
        most: int = 0,
    ) -> None:
        super().__init__()
        self.to = to
        self.client_id = client_id
        self.principal = principal
        self.timeout = timeout
        self.correlation = correlation
        self.request_id = request_id
        self.trace = trace
        self.most = most


class Answering(Effect):
    """The entry's message answers the question with the row ``question``, whose uid is ``of``."""

    __slots__ = ("of", "question")

    def __init__(self, question: int, of: str) -> None:
        super().__init__()
        self.question = question
        self.of = of
