"""The recorder: what every client sent and saw, and the judgement of it.

In the manner of Jepsen: while a test publishes, joins, kills and cuts as it likes, the recorder notes each
publish (invoked, then acknowledged, refused, or of unknown fate) and each frame that came, connection by
connection. At the end `check` compares this with the history that the server keeps, and names every promise
that was broken:

1. no acknowledged message is missing from the history, and its `seq` is the one acknowledged;
2. no message from nowhere: what was delivered was published by the client it names, with that content, and
   is in the history;
3. on one connection the `seq`s of a channel strictly rise, and over all connections of a client nothing comes
   twice;
4. no gap: what a member received from its join (or the position it resumed from) to its leave is the
   history of that stretch; a member that is still there has everything up to the head;
5. every member sees the same order, which is the history's: seq 1, 2, 3 … without hole or double;
6. a refused publish appears nowhere, an unknown one at most once;
7. private messages reach nobody but their targets;
8. presence is the set of living connections (`check_presence`);
9. all this holds within a deadline after the last fault (`settle`).

A member does not receive its own messages, so its view may lack exactly those.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness import judge
from tests.harness.record import (
    SERVER,
    Attempt,
    Delivery,
    Publication,
    Record,
    Row,
    Stretch,
    Violation,
    body_of,
    canonical_id,
    is_implicit,
)

if TYPE_CHECKING:
    pass


@dataclass(slots=True)
class _Link:
    """One connection."""

    number: int
    client: str = ""
    registration: Mapping[str, Any] = field(default_factory=dict)
    alive: bool = True
    stretches: dict[str, Stretch] = field(default_factory=dict)
    """The open ones, by address."""


class Recorder:
    """Takes notes for any number of `WireClient(recorder=…)`; see the module's text."""

    def __init__(self, *, indeterminate: Collection[str] = ("OUTCOME_UNKNOWN",)) -> None:
        """`indeterminate`: error codes after which a message may be in the history all the same."""
        self.record = Record()
        self._links: dict[int, _Link] = {}
        self._asked: dict[tuple[int, str], Mapping[str, Any]] = {}
        self._indeterminate = frozenset(indeterminate)
        self._events: list[tuple[float, str, int | None, Any]] = []

    # Taking notes

    def _note(self, what: str, link: int | None, detail: Any) -> None:
        self._events.append((time.monotonic(), what, link, detail))

    def note(self, text: str) -> None:
        """Write a remark (such as an injected fault) into the record that `dump` writes."""
        self._note("remark", None, text)

    def connecting(self, link: int, registration: Mapping[str, Any]) -> None:
        """A connection is about to register with these fields."""
        self._links[link] = _Link(link, registration=registration)
        self._note("connecting", link, dict(registration))

    def disconnected(self, link: int) -> None:
        """A connection has ended; its memberships end where they were."""
        known = self._links.get(link)
        if known is None or not known.alive:
            return
        self._note("disconnected", link, known.client)
        known.alive = False
        for stretch in known.stretches.values():
            stretch.open = False
        known.stretches.clear()

    def asked(self, link: int, request_id: str, parameters: Mapping[str, Any]) -> None:
        """A command was sent; its parameters are needed to understand the answer (`since` of a join)."""
        self._asked[link, request_id] = parameters

    def invoked(self, link: int, client: str, frame: Mapping[str, Any]) -> None:
        """A publish is about to be sent by `client` as this frame (either dialect)."""
        message_id = canonical_id(str(frame["id"]))
        self._note("invoked", link, dict(frame))
        payload = frame.get("payload") or {}
        to = frame.get("to") or payload.get("target") or payload.get("targets") or ()
        publication = self.record.publications.get(message_id)
        if publication is None:
            publication = Publication(message_id, client, body_of(frame), (to,) if isinstance(to, str) else tuple(to))
            self.record.publications[message_id] = publication
        publication.attempts[link].append(Attempt())

    def received(self, link: int, frame: Mapping[str, Any]) -> None:
        """A frame has come, in the order of its connection."""
        self._note("received", link, frame)
        known = self._links.setdefault(link, _Link(link))
        kind = frame.get("type")
        if kind == "ack" or (kind == "error" and frame.get("request_id")):
            self._answer(link, frame)
        elif kind == "command_response":
            self._command_answer(known, frame)
        elif kind == "system" and (frame.get("payload") or {}).get("event") == "registered":
            self._registered(known, frame["payload"])
        elif frame.get("id") is not None and frame.get("from") is not None:
            if frame["from"] == SERVER and frame.get("seq") is None:
                return  # a notice, not a message
            self._delivered(known, frame)

    def _answer(self, link: int, frame: Mapping[str, Any]) -> None:
        publication = self.record.publications.get(canonical_id(str(frame.get("request_id"))))
        if publication is None:
            return
        waiting = [attempt for attempt in publication.attempts[link] if attempt.outcome == "unknown"]
        if not waiting:
            self.record.immediate.append(Violation(6, f"{publication.message_id} was answered twice: {frame}"))
            return
        attempt = waiting[0]
        if frame["type"] == "ack":
            attempt.outcome = "ok"
            attempt.address = f"{frame.get('room')}:{frame.get('channel')}"
            attempt.seq = frame.get("seq")
            return
        attempt.error_code = (frame.get("error") or {}).get("code")
        partly_served = attempt.error_code == "TARGET_NOT_FOUND" and len(publication.targets) > 1
        if attempt.error_code not in self._indeterminate and not partly_served:
            attempt.outcome = "error"

    def _command_answer(self, link: _Link, frame: Mapping[str, Any]) -> None:
        if frame.get("status") != "success":
            return
        result = frame.get("result") or {}
        if frame.get("command") == "join_channel":
            parameters = self._asked.get((link.number, str(frame.get("request_id"))), {})
            joined = f"{result.get('room')}:{result.get('channel')}"
            self._open(link, joined, result, parameters.get("since"))
            for address, entry in (result.get("positions") or {}).items():
                if address != joined:
                    self._open(link, address, entry, None)
        elif frame.get("command") == "leave_channel":
            parameters = self._asked.get((link.number, str(frame.get("request_id"))), {})
            room = f"{parameters.get('room')}"
            self._end(link, f"{room}:{parameters.get('channel')}")
            if not any(address.startswith(f"{room}:") for address in link.stretches if address != f"{room}:*"):
                self._end(link, f"{room}:*")  # not in the room any more

    def _registered(self, link: _Link, payload: Mapping[str, Any]) -> None:
        link.client = str(payload.get("client_id"))
        initial = f"{payload.get('room')}:{payload.get('channel')}"
        positions = (link.registration.get("resume") or {}).get("positions") or {}
        for address, entry in (payload.get("channels") or {}).items():
            since = (positions.get(address) or {}).get("seq")
            if since is None and address == initial:
                since = link.registration.get("since")
            self._open(link, address, entry, since)

    def _open(self, link: _Link, address: str, entry: Mapping[str, Any], since: Any) -> None:
        """A membership begins: `entry` says where the log's head is and whether it goes on from `since`."""
        if entry.get("epoch"):
            self.record.epochs[address].add(str(entry["epoch"]))
        if address in link.stretches and since is None:
            return  # joined again while a member: the stretch goes on
        self._end(link, address)
        start: int | None = entry.get("seq")
        if entry.get("recovered") is False:
            start = entry["first_seq"] - 1
        elif since is not None:
            start = since if isinstance(since, int) else None
        self._begin(link, address, start)

    def _begin(self, link: _Link, address: str, start: int | None) -> Stretch:
        stretch = Stretch(link.number, link.client, address, start)
        link.stretches[address] = stretch
        self.record.stretches.append(stretch)
        return stretch

    def _end(self, link: _Link, address: str) -> None:
        stretch = link.stretches.pop(address, None)
        if stretch is not None:
            stretch.open = False

    def _delivered(self, link: _Link, frame: Mapping[str, Any]) -> None:
        address = f"{frame.get('room')}:{frame.get('channel')}"
        delivery = Delivery(
            address,
            frame.get("seq"),
            str(frame["id"]),
            str(frame["from"]),
            body_of(frame),
            str(frame.get("type")),
        )
        if delivery.seq is None:
            self.record.ephemeral.append((link.number, link.client, delivery))
            return
        stretch = link.stretches.get(address)
        if stretch is None:
            if not is_implicit(address):
                self.record.immediate.append(
                    Violation(4, f"{link.client} received {address} seq {delivery.seq} without being a member of it")
                )
            stretch = self._begin(link, address, None)
        stretch.deliveries.append(delivery)

    # Judging

    def addresses(self) -> set[str]:
        """Every log that was acknowledged, delivered or joined: those whose history `check` needs."""
        return self.record.addresses()

    def check(
        self,
        history: Mapping[str, Sequence[Row]],
        *,
        ignore: Collection[str] = (),
        pruned: Collection[str] = (),
        complete: bool = True,
    ) -> list[Violation]:
        """Every broken promise of 1 to 7; see `judge.check`."""
        return judge.check(self.record, history, ignore=ignore, pruned=pruned, complete=complete)

    def assert_ok(
        self,
        history: Mapping[str, Sequence[Row]],
        *,
        ignore: Collection[str] = (),
        pruned: Collection[str] = (),
        complete: bool = True,
    ) -> None:
        """Raise AssertionError that lists the broken promises, if any."""
        violations = self.check(history, ignore=ignore, pruned=pruned, complete=complete)
        assert not violations, _listed(violations)

    async def settle(
        self,
        read_history: Callable[[], Awaitable[Mapping[str, Sequence[Row]]]],
        *,
        deadline: float = 10.0,
        ignore: Collection[str] = (),
        pruned: Collection[str] = (),
    ) -> None:
        """Promise 9: `check` finds nothing within `deadline` seconds; else AssertionError with the rest."""
        end = time.monotonic() + deadline
        while True:
            violations = self.check(await read_history(), ignore=ignore, pruned=pruned)
            if not violations:
                return
            if time.monotonic() > end:
                raise AssertionError(f"not right within {deadline:g} s: {_listed(violations)}")
            await asyncio.sleep(0.1)

    # Presence

    def expected_presence(self) -> dict[str, set[str]]:
        """Address -> ids of the clients whose living connections are members of it."""
        presence: dict[str, set[str]] = defaultdict(set)
        for link in self._links.values():
            for address in link.stretches:
                if not is_implicit(address):
                    presence[address].add(link.client)
        return dict(presence)

    def check_presence(self, reported: Mapping[str, Collection[str]]) -> list[Violation]:
        """Promise 8 for the reported addresses: address -> client ids the server calls participants."""
        expected = self.expected_presence()
        violations = []
        for address, clients in reported.items():
            living = expected.get(address, set())
            violations += [
                Violation(8, f"{ghost} is reported in {address}, but is not connected")
                for ghost in sorted(set(clients) - living)
            ]
            violations += [
                Violation(8, f"{absent} is a member of {address}, but is not reported")
                for absent in sorted(living - set(clients))
            ]
        return violations

    # For people

    def dump(self, path: Path) -> None:
        """Write the whole record as JSON Lines, for the search for a cause."""
        with path.open("w") as file:
            for at, what, link, detail in self._events:
                file.write(json.dumps({"at": round(at, 6), "what": what, "link": link, "detail": detail}) + "\n")

    def summary(self) -> str:
        """Counts, for the line a long test prints."""
        outcomes = Counter(publication.outcome for publication in self.record.publications.values())
        deliveries = sum(len(stretch.deliveries) for stretch in self.record.stretches)
        return (
            f"{len(self.record.publications)} published ({outcomes['ok']} acknowledged, "
            f"{outcomes['error']} refused, {outcomes['unknown']} unknown), "
            f"{deliveries} deliveries over {len(self._links)} connections"
        )


def _listed(violations: Sequence[Violation], limit: int = 20) -> str:
    lines = [f"{len(violations)} broken promises", *map(str, violations[:limit])]
    return "\n".join([*lines, "…"] if len(violations) > limit else lines)
