"""Tickets: a page of another origin opens a socket without a cookie and without a long-lived token.

A ticket is signed, valid for some seconds, and valid once. The page gets it from its own back end, or from
``POST /api/v1/tickets``. It shows the ticket as sub-protocol ``ticket.<ticket>``, in the first frame, or in the URL, where a
spent ticket does no harm.
"""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from django.core.signing import BadSignature, Signer
from django.db import IntegrityError, transaction

from ..conf.settings import config
from ..models import UsedTicket
from ..protocol.errors import BusError, ErrorCode
from .permissions import Actor

PREFIX = "arq_tkt_"


class Ticket(NamedTuple):
    """A new ticket: its text, and its end in seconds since the epoch."""

    text: str
    expires_at: float


class _Content(msgspec.Struct, array_like=True):
    id: str
    expires_at: float
    actor: Actor


def _signer() -> Signer:
    # The text is a token in HTTP headers, which may hold no colon.
    return Signer(salt="arqonbus.ticket", sep=".")


def issue(actor: Actor) -> Ticket:
    """A ticket for ``actor``. It ends with the credential of ``actor``. Raises ``BusError`` UNAUTHENTICATED."""
    if actor.anonymous or actor.system:
        raise BusError(ErrorCode.UNAUTHENTICATED, "Authenticate first: only authenticated clients get tickets.")
    expires_at = time.time() + config().ticket_lifetime
    content = _Content(
        secrets.token_hex(12), expires_at, msgspec.structs.replace(actor, client_id="", client_type="", bearer="")
    )
    body = urlsafe_b64encode(msgspec.json.encode(content)).rstrip(b"=").decode()
    return Ticket(PREFIX + _signer().sign(body), expires_at)


def redeem(text: str) -> Actor | None:
    """The actor of a ticket, which this call spends; None if it is forged, expired or spent. Writes to the database."""
    try:
        body = _signer().unsign(text.removeprefix(PREFIX))
        content = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Content)
    except (BadSignature, ValueError, msgspec.MsgspecError):
        return None
    if content.expires_at <= time.time():
        return None
    try:
        with transaction.atomic():
            UsedTicket.objects.create(id=content.id, expires_at=datetime.fromtimestamp(content.expires_at, UTC))
    except IntegrityError:
        return None
    return content.actor


def forget_old() -> int:
    """Delete the rows of expired tickets. Returns their number."""
    return UsedTicket.objects.filter(expires_at__lt=datetime.now(UTC)).delete()[0]
