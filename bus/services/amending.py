"""Amendments from Django code: edit and delete messages, and react to them."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

from ..auth.permissions import SYSTEM, Actor
from ..protocol.amending import AMEND, DELETE, DOES, EDIT, REACT, UNREACT
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..publishing import django as publishing
from ..shapes import Published


def amend(
    address: str | Address,
    of: str,
    do: str,
    *,
    of_seq: int | None = None,
    message: str | None = None,
    payload: dict[str, Any] | None = None,
    reaction: str | None = None,
    id: str | None = None,
    actor: Actor = SYSTEM,
) -> Published:
    """Amend the message ``of`` of a channel: ``do`` is ``edit``, ``delete``, ``react`` or ``unreact``.

    ``of_seq`` is the seq of the message. Without it, the message is searched among the newest 10,000 of the channel. An edit
    gives a new ``message``, a new ``payload``, or both. A ``reaction`` is an emoji or a short text. The amendment is a message
    of its own, which subscribers receive after the commit. The bus recognises a repeated ``id``.

    Raises ``BusError`` MESSAGE_NOT_FOUND, also for a deleted message, FORBIDDEN, VALIDATION_ERROR, LIMIT_REACHED, and as
    ``publish``.
    """
    if do not in DOES:
        fault = {"field": "do", "message": f"`do` must be one of {', '.join(DOES)}."}
        raise BusError(ErrorCode.VALIDATION_ERROR, details=[fault])
    inbound = publishing.frame_message(
        type=AMEND,
        channel=str(publishing.address_of(address)),
        of=of,
        of_seq=of_seq,
        do=do,
        message=message,
        payload=payload,
        reaction=reaction,
        id=id,
    )
    return publishing.publish_frames([inbound], actor=actor, create=False).published[0]


def edit_message(
    address: str | Address,
    of: str,
    *,
    message: str | None = None,
    payload: dict[str, Any] | None = None,
    **options: Any,
) -> Published:
    """Edit a message. ``options`` and exceptions are those of :func:`amend`."""
    return amend(address, of, EDIT, message=message, payload=payload, **options)


def delete_message(address: str | Address, of: str, **options: Any) -> Published:
    """Delete a message: readers see no content of it, but the log keeps it. ``options`` are those of :func:`amend`."""
    return amend(address, of, DELETE, **options)


def react(address: str | Address, of: str, reaction: str, **options: Any) -> Published:
    """React to a message. ``options`` and exceptions are those of :func:`amend`."""
    return amend(address, of, REACT, reaction=reaction, **options)


def unreact(address: str | Address, of: str, reaction: str, **options: Any) -> Published:
    """Take a reaction back. ``options`` and exceptions are those of :func:`amend`."""
    return amend(address, of, UNREACT, reaction=reaction, **options)


aamend = sync_to_async(amend, thread_sensitive=True)
aedit_message = sync_to_async(edit_message, thread_sensitive=True)
adelete_message = sync_to_async(delete_message, thread_sensitive=True)
areact = sync_to_async(react, thread_sensitive=True)
aunreact = sync_to_async(unreact, thread_sensitive=True)
