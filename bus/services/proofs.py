"""Proofs: who may have a client id that is known, and the tokens of clients whose id the server generated."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from django.core import signing

from ..conf.settings import config
from ..models import Client, digest
from ..protocol.errors import ID_IN_USE, BusError, Closing, ErrorCode
from ..protocol.names import is_made_up
from .claims import Claim


def judge(row: Client | None, claim: Claim, now: datetime, *, connected: bool) -> tuple[Closing | None, bool, bool]:
    """Decide whether ``claim`` may have an id. ``row`` is the client's row, or None for an unknown id.

    Returns a refusal or None, whether the claimant proved its identity, and whether its resume token did so.
    """
    # An id that the server generated belongs to its connection, even after the connection's rows are gone.
    made_up = not claim.generated and is_made_up(claim.client_id) and not _is_its_own(claim)
    if row is None:
        proven = made_up and _proves_made_up(claim)
        if made_up and not proven:
            return _in_use("This client_id was generated for another connection."), False, False
        return None, proven, proven
    same_principal = bool(row.principal) and row.principal == claim.principal
    token_good = (
        claim.resume_token is not None
        and bool(row.resume_digest)
        and hmac.compare_digest(digest(claim.resume_token), row.resume_digest)
        and (row.disconnected_at is None or row.disconnected_at > now - timedelta(seconds=config().resume_window))
        and row.principal in ("", claim.principal)
    )
    proven = same_principal or token_good
    if row.principal and not proven:
        # A principal owns its client ids, connected or not; nobody else may speak under them.
        return _in_use("This client_id belongs to another client."), False, False
    if not proven and (made_up or (connected and row.connection_id != claim.connection_id)):
        return _in_use(), False, False
    return None, proven, token_good


def _in_use(text: str | None = None) -> Closing:
    return Closing(ID_IN_USE, BusError(ErrorCode.CLIENT_ID_IN_USE, text))


def _is_its_own(claim: Claim) -> bool:
    """Return whether the id is the one that the server generated for this connection."""
    return claim.client_id.endswith(f"-{claim.connection_id}")


# --- clients whose id the server generated ------------------------------------------------------------------------


def resume_token(client_id: str, principal: str) -> str:
    """Return the resume token of a client whose id the server generated.

    The token is a signature, so it needs no row. The client's row may go with the connection.
    """
    return _signer().signature(f"{client_id}/{principal}")


def first_epoch(client_id: str, everyones: str) -> str:
    """Return the first epoch of the inbox of a client whose id the server generated.

    ``everyones`` is the epoch of the log of messages to everybody. A restored database gets a new one. The result is the
    same each time: no row keeps it for a client that leaves before it gets a private message.
    """
    return digest(f"{everyones}/{client_id}")[:8]


def _proves_made_up(claim: Claim) -> bool:
    token = claim.resume_token or ""
    return any(_is_good(f"{claim.client_id}/{principal}", token) for principal in {"", claim.principal})


def _is_good(value: str, token: str) -> bool:
    try:
        _signer().unsign(f"{value}:{token}")
    except signing.BadSignature:
        return False
    return True


def _signer() -> signing.Signer:
    return signing.Signer(salt="arqonbus.resume")
