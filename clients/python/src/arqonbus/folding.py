"""Amendments: a message that edits or deletes another one, or reacts to it, and the message as it then stands.

The rule is that of the server (docs/protocol.md, Amendments): amendments count by their seq, whatever the order of their arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .messages import Message, Receipt

Frame = dict[str, Any]

AMEND = "amend"
EDIT, DELETE, REACT, UNREACT = DOES = ("edit", "delete", "react", "unreact")

#: The messages that a :class:`Fold` remembers.
KEPT = 10_000
#: The keys with the content of a message. A deleted one has none of them.
_CONTENT = ("message", "metadata", "parts", "end_payload", "eventType", "source")
#: The keys that an erased frame keeps.
_PLACE = ("version", "id", "type", "room", "channel", "from", "timestamp", "seq", "of", "of_seq", "do")


def is_amendment(frame: Mapping[str, Any]) -> bool:
    """Return whether a delivered frame changes another message."""
    return (
        frame.get("type") == AMEND
        and isinstance(frame.get("of_seq"), int)
        and frame.get("do") in DOES
        and isinstance(frame.get("seq"), int)
    )


def folded(frame: Frame, amendments: Iterable[Frame]) -> Frame:
    """Return a delivered message with its amendments, in any order. The result has ``edited``, ``deleted`` and ``reactions``.

    Neither argument is changed. A message without effective amendments is returned as it is.
    """
    if frame.get("erased") is True:
        return frame
    edit: Frame | None = None
    reactions: dict[str, dict[str, int]] = {}
    by_seq = {amendment["seq"]: amendment for amendment in amendments if is_amendment(amendment)}
    for _, amendment in sorted(by_seq.items()):
        if amendment["do"] == DELETE:
            return _deleted(frame, amendment)
        if amendment["do"] == EDIT:
            edit = amendment
        else:
            _react(reactions, amendment)
    told = _told(reactions)
    if edit is None and not told:
        return frame
    result = dict(frame)
    if edit is not None:
        _edit(result, edit)
    if told:
        result["reactions"] = told
    return result


def _mark(amendment: Frame) -> dict[str, Any]:
    return {"seq": amendment["seq"], "at": amendment.get("timestamp", ""), "by": amendment.get("from", "")}


def _deleted(frame: Frame, amendment: Frame) -> Frame:
    rest = {key: value for key, value in frame.items() if key not in _CONTENT}
    return {**rest, "payload": {}, "deleted": _mark(amendment)}


def _erased(frame: Frame) -> Frame:
    return {**{key: frame[key] for key in _PLACE if key in frame}, "payload": {}, "erased": True}


def _edit(frame: Frame, edit: Frame) -> None:
    frame["edited"] = _mark(edit)
    if edit.get("erased") is True:
        frame["payload"] = {}
        frame.pop("message", None)
        return
    twin = _twin(frame)
    text = edit.get("message")
    if "payload" in (edit.get("edits") or ()):
        frame["payload"] = edit.get("payload", {})
        if text is not None:
            frame["message"] = text
        elif twin:
            del frame["message"]
    elif text is not None:
        frame["message"] = text
        if twin:
            frame["payload"] = {**frame["payload"], twin: text}


def _twin(frame: Frame) -> str:
    """Return the key of the payload that has the text of the message a second time, or an empty text."""
    payload = frame.get("payload")
    if not isinstance(payload, dict):
        return ""
    key = "message" if "message" in payload else "content"
    return key if key in payload and "message" in frame and payload[key] == frame["message"] else ""


def _react(reactions: dict[str, dict[str, int]], amendment: Frame) -> None:
    reaction = amendment.get("reaction")
    if not isinstance(reaction, str) or not reaction:
        return
    clients = reactions.setdefault(reaction, {})
    if amendment["do"] == REACT:
        clients.setdefault(str(amendment.get("from", "")), amendment["seq"])
    else:
        clients.pop(str(amendment.get("from", "")), None)


def _told(reactions: dict[str, dict[str, int]]) -> dict[str, list[str]]:
    told = {reaction: clients for reaction, clients in reactions.items() if clients}
    first = sorted(told, key=lambda reaction: min(told[reaction].values()))
    return {reaction: sorted(told[reaction], key=told[reaction].__getitem__) for reaction in first}


class Fold:
    """The messages of channels as they stand now. Hand every received message to :meth:`take`.

    It remembers the newest ``keep`` messages, with all of their amendments. Give it messages as they were sent: those of a
    subscription, or of a history with ``fold=False``.
    """

    def __init__(self, keep: int = KEPT) -> None:
        if keep < 1:
            raise ValueError("`keep` must be 1 or more.")
        self._keep = keep
        # By the address and seq of the message: as it came, its amendments by their seq, and how it stands now.
        self._first: dict[tuple[str, int], Message] = {}
        self._amendments: dict[tuple[str, int], dict[int, Frame]] = {}
        self._now: dict[tuple[str, int], Message] = {}

    @property
    def messages(self) -> list[Message]:
        """The remembered messages as they stand now, by their address and place."""
        return [self._now[key] for key in sorted(self._now)]

    def take(self, message: Message) -> Message | None:
        """Note a message. Return it as it stands now, or for an amendment the message that it changes.

        Return None for an amendment of a message that is not remembered, and the message itself if it has no place in a log.
        """
        frame = message.raw
        if message.seq is None:
            return message
        if is_amendment(frame):
            return self._amend((message.address, frame["of_seq"]), frame)
        key = (message.address, message.seq)
        if key in self._first and message.erased:
            self._first[key] = self._now[key] = message
            self._amendments.pop(key, None)
        if key not in self._first:
            self._first[key] = self._now[key] = message
            while len(self._first) > self._keep:
                oldest = next(iter(self._first))
                del self._first[oldest], self._now[oldest]
                self._amendments.pop(oldest, None)
        return self._now[key]

    def erase(self, notice: Mapping[str, Any]) -> list[Message]:
        """Drop the content of erased messages. ``notice`` is the server's frame that names them; any other changes nothing.

        Return the remembered messages that change, as they stand now.
        """
        changed: dict[tuple[str, int], None] = {}
        payload = notice.get("payload") or {}
        for told in payload.get("messages") or () if payload.get("event") == "erased" else ():
            key = (f"{notice['room']}:{notice['channel']}", told.get("of_seq") or told["seq"])
            first = self._first.get(key)
            if first is None:
                continue
            if "of_seq" in told:
                amendment = self._amendments.get(key, {}).get(told["seq"])
                if amendment is not None:
                    self._amendments[key][told["seq"]] = _erased(amendment)
                    self._stand(key)
                    changed[key] = None
            else:
                self.take(Message.of(_erased(first.raw), after_gap=first.after_gap, bus=first.bus))
                changed[key] = None
        return [self._now[key] for key in changed]

    def _amend(self, key: tuple[str, int], amendment: Frame) -> Message | None:
        if key not in self._first:
            return None
        amendments = self._amendments.setdefault(key, {})
        if amendment["seq"] not in amendments:
            amendments[amendment["seq"]] = amendment
            self._stand(key)
        return self._now[key]

    def _stand(self, key: tuple[str, int]) -> None:
        """Fold a message anew."""
        first = self._first[key]
        frame = first.raw
        if first.state is not None and first.text:
            frame = {**frame, "message": first.text}  # The text of a streamed message stands in its parts.
        now = folded(frame, self._amendments[key].values())
        self._now[key] = Message.of(now, after_gap=first.after_gap, bus=first.bus)


def place_of(message: Message | Receipt | str, address: str | None) -> tuple[str, str, int | None]:
    """Return the address, the id and the seq of a message that is amended. Raises ``TypeError`` and ``ValueError``."""
    if isinstance(message, Message | Receipt):
        return f"{message.room}:{message.channel}", message.id, message.seq
    if not isinstance(message, str):
        raise TypeError(f"`message` must be a message, a receipt or an id, and not {type(message).__name__}.")
    if not message or address is None:
        raise ValueError("With the id of a message, give the `address` of its channel too.")
    return address, message, None
