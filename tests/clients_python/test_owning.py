"""The owner's bookkeeping, against a model of the server: whatever is lost or refused, each part is kept once and in order."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arqonbus.owning import COMPLETE, OPEN, Owning, PartsLost

pytestmark = pytest.mark.pure


class Server:
    """The rule of the transaction, and lines that lose what is on the way."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.state = OPEN
        self.took: list[str] = []
        self.coming: deque[dict[str, Any]] = deque()
        self.answers: deque[tuple[str, int]] = deque()

    def cut(self) -> None:
        """Lose what is on the way, in both directions."""
        self.coming.clear()
        self.answers.clear()

    def handle(self, *, refuse: bool = False) -> None:
        """Take the next frame, or refuse it as a busy server does."""
        if not self.coming:
            return
        frame = self.coming.popleft()
        number, content, end = frame["n"], frame.get("delta"), frame.get("end")
        if refuse:
            self.answers.append(("refused", number))
        elif self.state != OPEN:
            assert end or number <= len(self.parts)
            self.answers.append(("end" if end else "have", len(self.parts)))
        elif number > len(self.parts) + (content is not None):
            self.answers.append(("gap", len(self.parts)))
        else:
            if number == len(self.parts) + 1:
                assert content is not None
                self.parts.append(content)
                self.took += frame.get("took", [])
            if end:
                self.state = end
            self.answers.append(("end" if end else "have", len(self.parts)))


class World:
    """An owner, its server, and the line between them."""

    def __init__(self, window: int) -> None:
        self.owning = Owning("arq_a1", window)
        self.server = Server()
        self.written: list[str] = []

    def write(self) -> None:
        if self.owning.room and not self.owning.ending:
            self.written.append(f"{len(self.written)} ")
            number = self.owning.add({"delta": self.written[-1]}, [f"arq_s{len(self.written)}"])
            assert number == len(self.written)

    def end(self, *, content: bool) -> None:
        if not self.owning.ending:
            last = None
            if content:
                self.written.append("last")
                last = {"delta": "last"}
            self.owning.finish(COMPLETE, {"n": 1}, last)

    def send(self) -> None:
        if (frame := self.owning.due()) is not None:
            self.server.coming.append(frame)

    def hear(self) -> None:
        if not self.server.answers:
            return
        kind, number = self.server.answers.popleft()
        if kind == "have":
            self.owning.kept(number)
        elif kind == "gap":
            self.owning.gap(number)
        elif kind == "end":
            self.owning.kept(number)
            self.owning.state = COMPLETE
        else:
            self.owning.wait()
            self.owning.again()

    def reconnect(self) -> None:
        self.server.cut()
        self.owning.returned(len(self.server.parts))

    def step(self, kind: str) -> None:
        {
            "write": self.write,
            "end": lambda: self.end(content=False),
            "end with a part": lambda: self.end(content=True),
            "send": self.send,
            "handle": self.server.handle,
            "refuse": lambda: self.server.handle(refuse=True),
            "hear": self.hear,
            "reconnect": self.reconnect,
        }[kind]()

    def settle(self) -> None:
        """Let everything arrive on a line that holds."""
        for _ in range(20 * len(self.written) + 40):
            for kind in ("send", "handle", "hear"):
                self.step(kind)


STEPS = ["write", "send", "handle", "hear", "refuse", "reconnect", "end", "end with a part"]
#: The end comes seldom, so that much is written before it.
STEP = st.sampled_from(["write"] * 6 + ["send"] * 6 + ["handle"] * 6 + ["hear"] * 6 + ["refuse"] * 2 + STEPS)


@given(st.lists(STEP, max_size=150), st.integers(1, 5))
def test_each_part_is_kept_once_whatever_is_lost_and_refused(steps: list[str], window: int) -> None:
    world = World(window)
    for step in steps:
        world.step(step)
        assert world.server.parts == world.written[: len(world.server.parts)]
        assert world.owning.have <= len(world.server.parts)
        assert world.owning.last - world.owning.have <= window
    if not world.owning.ending:
        world.end(content=False)
    world.settle()
    assert world.server.parts == world.written
    assert (world.server.state, world.owning.state) == (COMPLETE, COMPLETE)
    assert world.server.took == [f"arq_s{n + 1}" for n, text in enumerate(world.written) if text != "last"]


def test_what_is_on_the_way_makes_one_return_and_not_one_for_each_refusal() -> None:
    owning = Owning("arq_a1", 10)
    for text in "abcde":
        owning.add({"delta": text})
    sent = [owning.due() for _ in range(5)]
    assert [frame["n"] for frame in sent if frame] == [1, 2, 3, 4, 5]
    owning.kept(1)
    for _ in range(3):  # 2 was lost, so 3, 4 and 5 are refused.
        owning.gap(1)
    assert [frame["n"] for _ in range(4) if (frame := owning.due())] == [2, 3, 4, 5]
    assert owning.due() is None


def test_a_server_that_lost_what_it_acknowledged_is_told() -> None:
    owning = Owning("arq_a1", 10)
    owning.add({"delta": "a"})
    owning.due()
    owning.kept(1)
    with pytest.raises(PartsLost):
        owning.returned(0)
    with pytest.raises(PartsLost):
        owning.gap(0)


def test_a_server_with_more_parts_than_were_written_is_an_error_and_no_endless_return() -> None:
    owning = Owning("arq_a1", 10)
    owning.finish("aborted")
    owning.due()
    with pytest.raises(PartsLost):
        owning.gap(1)
    assert owning.due() is None
    with pytest.raises(PartsLost):
        owning.returned(1)


def test_an_adopted_stream_goes_on_with_the_next_number_and_its_token() -> None:
    owning = Owning("arq_a1", 10)
    owning.begin(7, 2, "proof")
    assert owning.add({"part": {"n": 1}}, ["arq_s1"]) == 8
    frame = owning.due()
    assert frame == {
        "type": "append", "of": "arq_a1", "n": 8, "part": {"n": 1}, "id": "arq_a1#2/8", "ack": True, "took": ["arq_s1"],
        "token": "proof",
    }  # fmt: skip
    owning.finish("stopped")
    end = owning.due()
    assert end is not None
    assert (end["n"], end["end"], end["id"], "delta" in end) == (8, "stopped", "arq_a1#2_end", False)


def test_what_the_server_refuses_for_good_is_thrown_away_and_the_end_still_works() -> None:
    owning = Owning("arq_a1", 10)
    for text in "abc":
        owning.add({"delta": text})
        owning.due()
    owning.drop(2)
    owning.finish("aborted")
    end = owning.due()
    assert end is not None
    assert (end["n"], owning.last) == (1, 1)
