"""The recorder's data: what was published, what came, and over which membership it came."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SERVER = "arqonbus_server"
Outcome = Literal["unknown", "ok", "error"]


@dataclass(frozen=True, slots=True)
class Row:
    """One message of the history."""

    seq: int
    message_id: str
    sender: str


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the invariant's number and what was seen."""

    invariant: int
    text: str

    def __str__(self) -> str:
        return f"({self.invariant}) {self.text}"


@dataclass(slots=True)
class Attempt:
    """One sending of a message over one connection."""

    outcome: Outcome = "unknown"
    address: str | None = None
    seq: int | None = None
    error_code: str | None = None


@dataclass(slots=True)
class Publication:
    """A message by its id, with all attempts to publish it."""

    message_id: str
    sender: str
    body: str
    targets: tuple[str, ...] = ()
    """Client ids of a private message; empty for all others."""
    attempts: dict[int, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    """Attempts by connection number."""

    def all_attempts(self) -> list[Attempt]:
        """Every attempt, over all connections."""
        return [attempt for attempts in self.attempts.values() for attempt in attempts]

    @property
    def outcome(self) -> Outcome:
        """Acknowledged once is `ok`; refused each time is `error`; else nobody but the history knows."""
        outcomes = {attempt.outcome for attempt in self.all_attempts()}
        if "ok" in outcomes:
            return "ok"
        return "error" if outcomes == {"error"} else "unknown"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came to one connection; `seq` is None in ephemeral channels."""

    address: str
    seq: int | None
    message_id: str
    sender: str
    body: str
    type: str


@dataclass(slots=True)
class Stretch:
    """A connection's uninterrupted membership of a channel, or its reading of an inbox or a room's log."""

    link: int
    client: str
    address: str
    start: int | None
    """Everything with a greater seq is due; None: from the first one that came."""
    open: bool = True
    deliveries: list[Delivery] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """All that was noted and is to be judged."""

    publications: dict[str, Publication] = field(default_factory=dict)
    """By message id, as delivered."""
    stretches: list[Stretch] = field(default_factory=list)
    ephemeral: list[tuple[int, str, Delivery]] = field(default_factory=list)
    """Deliveries without a seq: connection number, client id, delivery."""
    epochs: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The epochs that answers named, by address."""
    immediate: list[Violation] = field(default_factory=list)
    """Broken promises that were seen while taking notes."""

    def published(self, message_id: str, address: str) -> Publication | None:
        """The publication of a kept or delivered message.

        A private message to several targets has one copy in each inbox, with the target's id behind a dot.
        """
        found = self.publications.get(message_id)
        if found is None and address.startswith("pm:"):
            found = self.publications.get(message_id.removesuffix(f".{address.removeprefix('pm:')}"))
        return found

    def addresses(self) -> set[str]:
        """Every log that was acknowledged, delivered or joined."""
        acknowledged = {
            attempt.address
            for publication in self.publications.values()
            for attempt in publication.all_attempts()
            if attempt.address is not None and attempt.seq is not None
        }
        return acknowledged | {stretch.address for stretch in self.stretches}


def canonical_id(message_id: str) -> str:
    """The id under which a message is delivered: a sender's own id gets the prefix `arq_`."""
    return message_id if message_id.startswith("arq_") else f"arq_{message_id}"


def is_implicit(address: str) -> bool:
    """Whether nobody joins this log by name: whole-room and everybody's messages, inboxes."""
    return address.endswith(":*") or address.startswith("pm:")


def body_of(frame: Mapping[str, Any]) -> str:
    """What the sender wrote, in a form that is equal for either dialect and for the delivered envelope."""
    payload = frame.get("payload") or {}
    message = frame.get("message")
    if isinstance(payload, Mapping):
        message = payload.get("message") if message is None else message
        payload = {key: value for key, value in payload.items() if key not in ("message", "target", "targets")}
    return json.dumps([message, payload], sort_keys=True)
