"""Tickets: how a browser page of another origin opens a socket without a cookie and without a token in its hands for long.

A ticket is signed, good for some seconds, and good once. The page asks its own back end (or ``POST /api/v1/tickets``) for one
and shows it to the socket as sub-protocol ``ticket.<ticket>``, in the first frame, or, since it is spent by then, in the URL.
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
    """A fresh ticket: its text, and when it ends (seconds since the epoch)."""

    text: str
    expires_at: float


class _Content(msgspec.Struct, array_like=True):
    id: str
    expires_at: float
    actor: Actor


def _signer() -> Signer:
    # The text has to be a token of HTTP headers: no colon.
    return Signer(salt="arqonbus.ticket", sep=".")


def issue(actor: Actor) -> Ticket:
    """A ticket that makes its bearer ``actor``, as long as what proved ``actor`` holds. Raises ``BusError`` UNAUTHENTICATED."""
    if actor.anonymous or actor.system:
        raise BusError(ErrorCode.UNAUTHENTICATED, "Authenticate first: only authenticated clients get tickets.")
    expires_at = time.time() + config().ticket_lifetime
    content = _Content(secrets.token_hex(12), expires_at, msgspec.structs.replace(actor, client_id="", client_type=""))
    body = urlsafe_b64encode(msgspec.json.encode(content)).rstrip(b"=").decode()
    return Ticket(PREFIX + _signer().sign(body), expires_at)


def redeem(text: str) -> Actor | None:
    """The actor of a ticket, which is spent by this; None for one that is forged, late or spent. Writes to the database."""
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
    """Drop what is remembered of tickets that would be too late by now; how many."""
    return UsedTicket.objects.filter(expires_at__lt=datetime.now(UTC)).delete()[0]
