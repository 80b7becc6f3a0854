"""What an entry does to another message: its message amends it.

The caller gives the input. The log decides in the entry's transaction (``log.amend_batch``).
"""

from __future__ import annotations

from typing import Any

from .effects import Effect


class Amending(Effect):
    """The entry's message changes the message ``of_seq`` of its channel, whose uid is ``message_uid``.

    ``do`` is ``edit``, ``delete``, ``react`` or ``unreact``. ``client_id`` and ``principal`` are the sender's. ``audit`` has
    the fields of the ``AuditEntry`` for a change of somebody else's message.
    """

    __slots__ = ("audit", "client_id", "do", "message_uid", "of_seq", "principal", "reaction")

    def __init__(
        self,
        message_uid: str,
        of_seq: int,
        do: str,
        client_id: str,
        principal: str,
        *,
        reaction: str = "",
        audit: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.message_uid = message_uid
        self.of_seq = of_seq
        self.do = do
        self.client_id = client_id
        self.principal = principal
        self.reaction = reaction
        self.audit = audit
