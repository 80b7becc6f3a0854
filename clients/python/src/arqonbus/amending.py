"""The methods of a bus that amend messages: edit, delete, react."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .folding import AMEND, DELETE, EDIT, REACT, UNREACT, place_of
from .messages import Message, Receipt, split_address
from .publishing import Publishing


class Amending(Publishing):
    """Edits and deletions of messages, and reactions to them. Each is a message of its own, of type ``amend``."""

    async def edit(
        self,
        message: Message | Receipt | str,
        text: str | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Replace the text, the payload, or both. ``message`` is a message, its receipt, or with ``address`` its id.

        The message of somebody else needs the right to manage. Returns when the edit is durable. Raises ``MessageNotFound``,
        ``Forbidden``, ``ValidationFailed`` …
        """
        if text is None and payload is None:
            raise ValueError("An edit needs a `text`, a `payload`, or both.")
        content: dict[str, Any] = {} if text is None else {"message": text}
        if payload is not None:
            content["payload"] = dict(payload)
        return await self._amend(message, EDIT, content, address, id, timeout)

    async def delete(
        self,
        message: Message | Receipt | str,
        *,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Delete a message for its readers. The log keeps what it said; ``erase_message`` removes that, too.

        Arguments and errors as of :meth:`edit`.
        """
        return await self._amend(message, DELETE, {}, address, id, timeout)

    async def react(
        self,
        message: Message | Receipt | str,
        reaction: str,
        *,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """React to any message, with an emoji or another short text. Arguments and errors as of :meth:`edit`."""
        return await self._amend(message, REACT, {"reaction": reaction}, address, id, timeout)

    async def unreact(
        self,
        message: Message | Receipt | str,
        reaction: str,
        *,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Take the own reaction back. Arguments and errors as of :meth:`edit`."""
        return await self._amend(message, UNREACT, {"reaction": reaction}, address, id, timeout)

    async def erase_message(self, address: str, seq: int) -> dict[str, Any]:
        """Erase what a message and its amendments say, everywhere and for good (managers). Raises ``Forbidden`` …"""
        return await self._command("erase_message", {"channel": address, "seq": seq})

    async def _amend(
        self,
        message: Message | Receipt | str,
        do: str,
        content: dict[str, Any],
        address: str | None,
        id: str | None,
        timeout: float | None,
    ) -> Receipt:
        place, of, seq = place_of(message, address)
        room, channel = split_address(place)
        frame = {**self._content(AMEND, None, None, None, id), "of": of, "do": do, **content}
        if seq is not None:
            frame["of_seq"] = seq
        self._direct(frame, room, channel)
        self._want_echo(frame, place, None)
        return await self._publish(frame, ack=True, timeout=timeout)
