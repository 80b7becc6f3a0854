"""Streams against a plain model: no part is lost or doubled, and each steer has one fate."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from bus.auth.permissions import Actor
from bus.log import Entry, streamed
from bus.models import Channel, Room, StreamPart, StreamSteer
from bus.protocol.errors import BusError
from bus.services import streams
from tests.log.streams import effect_of, frames, message, opening, part, refusal, steer, write

pytestmark = pytest.mark.django_db(transaction=True)

OWNERS = ("ada", "bob")
TEXTS = st.text(alphabet='ab"\\\né😀', max_size=4)


class Known:
    """What the model knows of one stream."""

    def __init__(self, owner: str, *, there: bool) -> None:
        self.owner, self.attempt = owner, 1
        # Whether a stop waits for the owner.
        self.there = there
        self.token: str | None = None
        self.state, self.stopping = "open", False
        self.end_seq: int | None = None
        self.parts: list[str] = []
        self.open: list[str] = []
        self.untaken: list[str] | None = None


class Streams(RuleBasedStateMachine):
    """Openings, parts, steers, stops, adoptions and ends, in groups of any size."""

    def __init__(self) -> None:
        super().__init__()
        room = Room.objects.create(name=secrets.token_hex(8))
        self.channel = Channel.objects.create(room=room, name="bench")
        self.known: dict[str, Known] = {}
        self.waiting: list[tuple[Entry, dict[str, Any]]] = []
        self.head = 0
        self.sent = 0
        #: Each steer's fate: taken, untaken, late, or open.
        self.fates: dict[str, str] = {}
        self.prefix = secrets.token_hex(4)

    def push(self, entry: Entry, **expected: Any) -> None:
        """Add an entry to the group, with the results that the model foresees."""
        self.waiting.append((entry, expected))

    def next_seq(self) -> int:
        self.head += 1
        return self.head

    def pick(self, data: st.DataObject) -> tuple[str, Known]:
        of = data.draw(st.sampled_from(sorted(self.known)))
        return of, self.known[of]

    @rule()
    def flush(self) -> None:
        """Write the group, and compare every result."""
        write(*(entry for entry, _ in self.waiting))
        for entry, expected in self.waiting:
            found = {"seq": entry.seq, "refusal": refusal(entry), "duplicate": entry.duplicate}
            effect = entry.effect
            for name in ("applied", "untaken", "steered"):
                if name in expected:
                    found[name] = getattr(effect, name)
            if "have" in expected:
                found["have"] = effect_of(entry).stream.have
            assert found == {"seq": None, "refusal": None, "duplicate": False, **expected}, entry.uid
        self.waiting.clear()

    @rule()
    def say(self) -> None:
        """A message that has nothing to do with streams."""
        self.sent += 1
        self.push(message(self.channel.id, f"arq_{self.prefix}m{self.sent}"), seq=self.next_seq())

    @precondition(lambda self: len(self.known) < 5)
    @rule(owner=st.sampled_from(OWNERS), there=st.booleans())
    def open(self, owner: str, there: bool) -> None:
        """An owner without a connection counts as there for a while after each append, if it never had a connection."""
        of = f"arq_{self.prefix}o{len(self.known)}"
        self.known[of] = Known(owner, there=there)
        self.push(opening(self.channel.id, of, owner=owner, principal=owner, rest=there), seq=self.next_seq(), have=0)

    @precondition(lambda self: bool(self.known))
    @rule(
        data=st.data(),
        text=st.none() | TEXTS,
        jump=st.sampled_from([1, 1, 1, 1, 1, 0, -1, 2]),
        ends=st.sampled_from([False] * 4 + [True]),
    )
    def append(self, data: st.DataObject, text: str | None, jump: int, ends: bool) -> None:
        """A part, an end or both, by the owner or by somebody else; the next one, a repeated one, or one too far."""
        of, known = self.pick(data)
        by = data.draw(st.sampled_from([known.owner] * 6 + ["eve"]))
        took = data.draw(st.lists(st.sampled_from(known.open), unique=True)) if known.open else []
        end = data.draw(st.sampled_from(["complete", "aborted"])) if ends else None
        have = len(known.parts)
        n = max(have + jump, 1 if text is not None else 0)
        entry = part(
            self.channel.id, n, text, of=of, owner=by, principal=by, end=end, took=tuple(took), token=known.token
        )
        self.push(entry, **self.foreseen(known, by, n, text, end, took))

    def foreseen(
        self, known: Known, by: str, n: int, text: str | None, end: str | None, took: list[str]
    ) -> dict[str, Any]:
        """The result of an append, by the rules of the protocol."""
        have = len(known.parts)
        if by != known.owner:
            return {"refusal": "STREAM_LOST"}
        if known.state != "open":
            if end is None:
                return {"duplicate": True} if n <= have else {"refusal": "STREAM_ENDED"}
            same = n == have and known.state in (end, "stopped")
            return {"duplicate": True, "seq": known.end_seq} if same else {"refusal": "STREAM_ENDED"}
        new = text is not None and n == have + 1
        if not new and (n > have or (end is not None and n < have)):
            return {"refusal": "STREAM_GAP"}
        for uid in took:
            known.open.remove(uid)
            self.fates[uid] = "taken"
        if new:
            known.parts.append(text or "")
        if end is None:
            return {"applied": new, "duplicate": text is not None and not new, "have": len(known.parts)}
        known.state = "stopped" if known.stopping else end
        known.end_seq = self.next_seq()
        self.leave(known)
        return {"seq": known.end_seq, "untaken": known.untaken, "applied": new}

    def leave(self, known: Known) -> None:
        """Note the steers that were not taken at the end."""
        known.untaken = list(known.open)
        for uid in known.open:
            self.fates[uid] = "untaken"
        known.open.clear()

    @precondition(lambda self: bool(self.known))
    @rule(data=st.data())
    def steer(self, data: st.DataObject) -> None:
        of, known = self.pick(data)
        self.sent += 1
        uid = f"arq_{self.prefix}s{self.sent}"
        is_open = known.state == "open"
        self.fates[uid] = "open" if is_open else "late"
        if is_open:
            known.open.append(uid)
        self.push(steer(self.channel.id, uid, of=of), seq=self.next_seq(), steered=is_open)

    @precondition(lambda self: bool(self.known))
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        """The server ends a stream whose owner is gone. Another owner is asked."""
        of, known = self.pick(data)
        self.flush()
        state = streams.request_stop(Actor(principal="eve", client_id="eve"), of).state
        if known.state == "open" and known.there:
            known.stopping = True
            assert state.stopping
        elif known.state == "open":
            known.state, known.end_seq = "stopped", self.next_seq()
            self.leave(known)
        assert (state.state, state.have, state.end_seq) == (known.state, len(known.parts), known.end_seq)

    @precondition(lambda self: bool(self.known))
    @rule(data=st.data(), by=st.sampled_from([*OWNERS, "eve"]), keep=st.booleans())
    def adopt(self, data: st.DataObject, by: str, keep: bool) -> None:
        of, known = self.pick(data)
        self.flush()
        actor = Actor(principal=by, client_id=by)
        if by != known.owner or known.state != "open":
            with pytest.raises(BusError, match="FORBIDDEN" if by != known.owner else "STREAM_ENDED"):
                streams.adopt(actor, of, keep=keep)
            return
        adopted = streams.adopt(actor, of, keep=keep)
        known.there = False
        known.token, known.attempt = adopted.token, known.attempt + 1
        if not keep:
            known.parts.clear()
        assert (adopted.state.have, adopted.state.attempt) == (len(known.parts), known.attempt)

    @invariant()
    def the_log_has_what_the_model_has(self) -> None:
        """After each group the texts, the numbers and the open steers are those of the model."""
        if self.waiting:
            return
        ends = {frame["of"]: frame for frame in frames(self.channel) if frame["type"] == "stream_end"}
        for of, known in self.known.items():
            state = streamed.state_of(of)
            assert state is not None
            assert (state.state, state.have, state.end_seq, state.attempt, state.steers) == (
                known.state, len(known.parts), known.end_seq, known.attempt, len(known.open),
            )  # fmt: skip
            snapshot = streams.snapshot(state.id)
            assert snapshot is not None
            text = "".join(known.parts)
            assert msgspec.json.decode(b'"%b"' % snapshot.data) == text
            steers = StreamSteer.objects.filter(stream_id=state.id).order_by("seq").values_list("uid", flat=True)
            assert list(steers) == known.open
            assert (of in ends) == (known.state != "open")
            if of in ends:
                assert (ends[of]["message"], ends[of]["untaken"]) == (text, known.untaken)
                assert not StreamPart.objects.filter(stream_id=state.id).exists()

    def teardown(self) -> None:
        """Each steer has one fate, and the log says the same."""
        self.flush()
        listed = [uid for frame in frames(self.channel) for uid in frame.get("untaken", ())]
        assert sorted(listed) == sorted(uid for uid, fate in self.fates.items() if fate == "untaken")
        still = StreamSteer.objects.filter(stream__channel=self.channel).values_list("uid", flat=True)
        assert sorted(still) == sorted(uid for uid, fate in self.fates.items() if fate == "open")


def test_streams_do_what_a_plain_model_does() -> None:
    run_state_machine_as_test(
        Streams,
        settings=settings(
            max_examples=20,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # A shorter counterexample takes minutes on a database.
            phases=[Phase.generate],
        ),
    )
