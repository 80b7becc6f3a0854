"""What happens after a decision. ``manage.py runhandlers`` runs this module."""

from __future__ import annotations

from bus.handlers import HandledMessage, on
from desk.models import Ticket
from desk.places import ANSWER, APPROVALS

#: The sender of the server's own messages. No client can have this id.
SERVER = "arqonbus_server"


@on(APPROVALS, name="tickets", since="start", types=["decision_made"])
def write_ticket(message: HandledMessage) -> None:
    """Write the ticket of an approved answer, in the transaction that moves this handler on: once, whatever is killed."""
    decision = message.payload["decision"]
    if message.sender != SERVER or decision["action"] != ANSWER or decision["answer"] not in ("approve", "edit"):
        return
    Ticket.objects.create(
        decision=decision["decision"],
        customer=decision["args"]["customer"],
        question=decision["args"]["question"],
        answer=decision["args"]["answer"],
        approved_by=decision["by"],
    )
