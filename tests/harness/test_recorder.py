"""The recorder finds each broken promise, names the right one, and nothing in a history that is right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness.record import Row, Violation
from tests.harness.recorder import Recorder

pytestmark = pytest.mark.pure

ALICE, BOB, CAROL = 1, 2, 3
NAMES = {ALICE: "alice", BOB: "bob", CAROL: "carol"}
LOG = "lab:bench"


class Story:
    """A history told in a few words: who joined, published and received what."""

    def __init__(self, **options: Any) -> None:
        self.recorder = Recorder(**options)
        self.rows: dict[str, list[Row]] = {LOG: []}

    def joins(
        self,
        *links: int,
        head: int = 0,
        since: int | None = None,
        address: str = LOG,
        epoch: str = "e1",
        **entry: Any,
    ) -> Story:
        room, _, channel = address.partition(":")
        for link in links:
            resume = {} if since is None else {"resume": {"positions": {address: {"seq": since}}}}
            client = NAMES.get(link, f"client-{link}")
            self.recorder.connecting(link, {"client_id": client, **resume})
            self.recorder.received(
                link,
                {
                    "type": "system",
                    "from": "arqonbus_server",
                    "payload": {
                        "event": "registered",
                        "client_id": client,
                        "room": room,
                        "channel": channel,
                        "channels": {address: {"epoch": epoch, "seq": head, **entry}},
                    },
                },
            )
        return self

    def asks(self, link: int, command: str, result: Mapping[str, Any], **parameters: Any) -> Story:
        request_id = f"arq_request_{len(self.recorder._asked)}"
        self.recorder.asked(link, request_id, parameters)
        self.recorder.received(
            link,
            {
                "type": "command_response",
                "request_id": request_id,
                "command": command,
                "status": "success",
                "result": result,
            },
        )
        return self

    def publishes(self, link: int, text: str, to: list[str] | None = None) -> Story:
        frame: dict[str, Any] = {"type": "event", "id": f"arq_{text}", "message": text}
        if to is not None:
            frame |= {"type": "private", "to": to}
        self.recorder.invoked(link, NAMES[link], frame)
        return self

    def acked(self, link: int, text: str, seq: int, address: str = LOG) -> Story:
        room, _, channel = address.partition(":")
        answer = {"type": "ack", "request_id": f"arq_{text}", "seq": seq, "room": room, "channel": channel}
        self.recorder.received(link, answer)
        return self

    def refused(self, link: int, text: str, code: str = "FORBIDDEN") -> Story:
        self.recorder.received(
            link, {"type": "error", "request_id": f"arq_{text}", "error": {"code": code, "number": 403}}
        )
        return self

    def kept(self, *rows: tuple[int, str, int], address: str = LOG) -> Story:
        self.rows.setdefault(address, []).extend(Row(seq, f"arq_{text}", NAMES[sender]) for seq, text, sender in rows)
        return self

    def receives(self, link: int, *messages: tuple[int | None, str, int], address: str = LOG, **changes: Any) -> Story:
        room, _, channel = address.partition(":")
        for seq, text, sender in messages:
            frame = {
                "version": "1.0",
                "type": "event",
                "id": f"arq_{text}",
                "room": room,
                "channel": channel,
                "from": NAMES[sender],
                "payload": {},
                "message": text,
                "seq": seq,
                **changes,
            }
            if seq is None:
                del frame["seq"]
            self.recorder.received(link, frame)
        return self

    def exchange(self, *texts: str) -> Story:
        """Alice publishes these texts with an ack, from seq 1 on; the history keeps them."""
        for seq, text in enumerate(texts, 1):
            self.publishes(ALICE, text).acked(ALICE, text, seq).kept((seq, text, ALICE))
        return self

    def found(self, **options: Any) -> list[Violation]:
        return self.recorder.check(self.rows, **options)


def broken(violations: Iterable[Violation]) -> set[int]:
    """The numbers of the promises that were found broken."""
    return {violation.invariant for violation in violations}


def test_a_right_history_has_no_violation() -> None:
    """Two members, one leaves and one is cut and resumes, a refused and an unknown publish: all allowed."""
    story = Story().joins(ALICE, BOB, CAROL).exchange("a", "b", "c")
    story.receives(BOB, (1, "a", ALICE), (2, "b", ALICE))
    story.receives(CAROL, (1, "a", ALICE))
    story.recorder.disconnected(CAROL)
    story.joins(4, head=3, since=1, recovered=True)
    story.receives(4, (2, "b", ALICE), (3, "c", ALICE))
    story.asks(BOB, "leave_channel", {"channels": []}, room="lab", channel="bench")
    story.publishes(ALICE, "no").refused(ALICE, "no")
    story.publishes(ALICE, "maybe")
    assert story.found() == []
    assert story.recorder.summary() == (
        "5 published (3 acknowledged, 1 refused, 1 unknown), 5 deliveries over 4 connections"
    )


def test_a_members_own_messages_may_be_missing_from_its_view() -> None:
    """A sender does not receive its own message, except with echo."""
    silent = Story().joins(ALICE).exchange("a", "b")
    assert silent.found() == []
    echoed = Story().joins(ALICE).exchange("a", "b").receives(ALICE, (1, "a", ALICE), (2, "b", ALICE))
    assert echoed.found() == []


def test_1_an_acked_message_that_is_not_in_the_history() -> None:
    story = Story().joins(ALICE).publishes(ALICE, "a").acked(ALICE, "a", 1)
    assert broken(story.found()) == {1}


def test_1_an_acked_seq_that_holds_another_message() -> None:
    story = Story().joins(ALICE).publishes(ALICE, "a").publishes(ALICE, "b")
    story.acked(ALICE, "a", 1).acked(ALICE, "b", 1).kept((1, "a", ALICE))
    assert broken(story.found()) == {1}


def test_1_a_repeated_publish_that_is_acked_at_two_places() -> None:
    """An idempotent repetition answers with the first seq; two seqs are one too many."""
    right = Story().joins(ALICE).exchange("a").publishes(ALICE, "a").acked(ALICE, "a", 1)
    assert right.found() == []
    wrong = Story().joins(ALICE).exchange("a").publishes(ALICE, "a").acked(ALICE, "a", 2)
    wrong.kept((2, "a", ALICE))
    assert broken(wrong.found()) == {1, 6}


def test_2_a_delivery_that_nobody_published() -> None:
    story = Story().joins(ALICE, BOB).receives(BOB, (1, "ghost", ALICE))
    story.kept((1, "ghost", ALICE))
    assert broken(story.found()) == {2}


def test_2_a_delivery_that_is_not_in_the_history() -> None:
    story = Story().joins(ALICE, BOB).exchange("a")
    story.publishes(ALICE, "lost").receives(BOB, (1, "a", ALICE), (2, "lost", ALICE))
    assert broken(story.found()) == {2}


@pytest.mark.parametrize("change", [{"message": "forged"}, {"from": "mallory"}, {"payload": {"more": 1}}])
def test_2_a_delivery_that_was_changed_on_the_way(change: dict[str, Any]) -> None:
    story = Story().joins(ALICE, BOB).exchange("a").receives(BOB, (1, "a", ALICE), **change)
    assert broken(story.found()) == {2}


def test_2_a_history_that_names_another_sender() -> None:
    story = Story().joins(ALICE).publishes(ALICE, "a").acked(ALICE, "a", 1).kept((1, "a", BOB))
    assert 2 in broken(story.found())


def test_3_a_message_that_comes_twice_on_one_connection() -> None:
    story = Story().joins(ALICE, BOB).exchange("a").receives(BOB, (1, "a", ALICE), (1, "a", ALICE))
    assert broken(story.found()) == {3}


def test_3_messages_out_of_order_on_one_connection() -> None:
    story = Story().joins(ALICE, BOB).exchange("a", "b")
    story.receives(BOB, (2, "b", ALICE), (1, "a", ALICE))
    assert broken(story.found()) == {3}


def test_3_a_resumed_connection_that_gets_again_what_it_had() -> None:
    story = Story().joins(ALICE, BOB).exchange("a", "b").receives(BOB, (1, "a", ALICE))
    story.recorder.disconnected(BOB)
    story.joins(4, head=2, since=1, recovered=True)
    story.receives(4, (1, "a", ALICE), (2, "b", ALICE))
    assert broken(story.found()) == {3}


def test_3_one_message_at_two_seqs_over_two_connections_of_a_client() -> None:
    story = Story().joins(ALICE, BOB).exchange("a").receives(BOB, (1, "a", ALICE))
    story.recorder.disconnected(BOB)
    story.joins(BOB, head=2, since=1, recovered=True).receives(BOB, (2, "a", ALICE))
    story.kept((2, "a", ALICE))
    assert 3 in broken(story.found())


def test_3_an_ephemeral_message_that_comes_twice() -> None:
    """Ephemeral channels have no seq, yet nobody gets a message twice."""
    story = Story().joins(ALICE, BOB).publishes(ALICE, "brief")
    story.receives(BOB, (None, "brief", ALICE))
    assert story.found() == []
    story.receives(BOB, (None, "brief", ALICE))
    assert broken(story.found()) == {3}


def test_4_a_gap_in_the_middle() -> None:
    story = Story().joins(ALICE, BOB).exchange("a", "b", "c")
    story.receives(BOB, (1, "a", ALICE), (3, "c", ALICE))
    (violation,) = story.found()
    assert violation.invariant == 4
    assert "never received seq 2" in violation.text


def test_4_a_gap_right_after_the_join() -> None:
    """What was published between the answer to the join and the first delivery is due as well."""
    story = Story().joins(ALICE, BOB).exchange("a", "b").receives(BOB, (2, "b", ALICE))
    assert broken(story.found()) == {4}


def test_4_a_lost_tail_of_a_member_that_is_still_there() -> None:
    """A member that is connected at the end must have the head; one that was cut need not."""
    story = Story().joins(ALICE, BOB).exchange("a", "b").receives(BOB, (1, "a", ALICE))
    assert broken(story.found()) == {4}
    assert story.found(complete=False) == []
    story.recorder.disconnected(BOB)
    assert story.found() == []


def test_4_a_member_that_never_received_anything() -> None:
    story = Story().joins(ALICE, BOB).exchange("a")
    assert broken(story.found()) == {4}


def test_4_what_was_missed_while_away_is_due_after_a_recovered_resume() -> None:
    story = Story().joins(ALICE).exchange("a", "b", "c")
    story.joins(BOB, head=3, since=1, recovered=True).receives(BOB, (3, "c", ALICE))
    assert broken(story.found()) == {4}


def test_4_a_resume_that_was_told_to_be_impossible_goes_on_from_what_is_left() -> None:
    """`recovered: false` with the first seq that is left is an honest answer, not a gap."""
    story = Story().joins(ALICE).exchange("a", "b", "c")
    story.joins(BOB, head=3, since=0, recovered=False, first_seq=3).receives(BOB, (3, "c", ALICE))
    assert story.found() == []


def test_4_a_join_with_since_is_judged_from_that_position() -> None:
    result = {"room": "lab", "channel": "bench", "epoch": "e1", "seq": 2, "recovered": True}
    story = Story().joins(ALICE).joins(BOB, address="lab:other").exchange("a", "b")
    story.rows["lab:other"] = []
    story.asks(BOB, "join_channel", result, room="lab", channel="bench", since=0)
    story.receives(BOB, (2, "b", ALICE))
    assert broken(story.found()) == {4}


def test_4_a_delivery_without_membership() -> None:
    story = Story().joins(ALICE).joins(BOB, address="lab:other").exchange("a")
    story.rows["lab:other"] = []
    story.receives(BOB, (1, "a", ALICE))
    assert broken(story.found()) == {4}


def test_4_a_delivery_after_the_answer_to_leave() -> None:
    story = Story().joins(ALICE, BOB).exchange("a", "b").receives(BOB, (1, "a", ALICE))
    story.asks(BOB, "leave_channel", {"channels": []}, room="lab", channel="bench")
    assert story.found() == []
    story.receives(BOB, (2, "b", ALICE))
    assert broken(story.found()) == {4}


def test_4_whole_room_messages_need_no_join_but_have_no_gap_either() -> None:
    story = Story().joins(ALICE, BOB)
    for seq, text in enumerate("abc", 1):
        story.publishes(ALICE, text).kept((seq, text, ALICE), address="lab:*")
    story.receives(BOB, (1, "a", ALICE), (3, "c", ALICE), address="lab:*")
    assert broken(story.found()) == {4}


@pytest.mark.parametrize("seqs", [(1, 3), (2, 3), (1, 2, 2)])
def test_5_a_history_with_a_hole_a_double_or_without_its_beginning(seqs: tuple[int, ...]) -> None:
    story = Story().joins(ALICE)
    for text, seq in zip("abc", seqs, strict=False):
        story.publishes(ALICE, text).kept((seq, text, ALICE))
    assert broken(story.found()) == {5}


def test_5_a_pruned_history_may_lack_its_beginning() -> None:
    story = Story().joins(ALICE, BOB).exchange("a", "b").receives(BOB, (1, "a", ALICE), (2, "b", ALICE))
    del story.rows[LOG][0]
    assert broken(story.found()) == {5}
    assert story.found(pruned={LOG}) == []


def test_5_two_members_that_see_different_orders() -> None:
    story = Story().joins(ALICE, BOB, CAROL).publishes(ALICE, "a").publishes(ALICE, "b")
    story.kept((1, "a", ALICE), (2, "b", ALICE))
    story.receives(BOB, (1, "a", ALICE), (2, "b", ALICE))
    story.receives(CAROL, (1, "b", ALICE), (2, "a", ALICE))
    assert broken(story.found()) == {5}


def test_5_a_log_whose_epoch_changed() -> None:
    story = Story().joins(ALICE, epoch="e1").joins(BOB, epoch="e2")
    assert broken(story.found()) == {5}


def test_6_a_refused_publish_in_the_history() -> None:
    story = Story().joins(ALICE).publishes(ALICE, "no").refused(ALICE, "no").kept((1, "no", ALICE))
    assert broken(story.found()) == {6}


def test_6_a_refused_publish_that_somebody_received() -> None:
    story = Story().joins(ALICE, BOB).publishes(ALICE, "no").refused(ALICE, "no")
    story.receives(BOB, (None, "no", ALICE))
    assert broken(story.found()) == {6}


def test_6_a_refusal_after_an_unknown_attempt_proves_nothing() -> None:
    """The first attempt's fate is unknown, so the message may be in the history: once."""
    story = Story().joins(ALICE).publishes(ALICE, "a")
    story.recorder.disconnected(ALICE)
    story.recorder.invoked(4, "alice", {"id": "arq_a", "message": "a"})
    story.refused(4, "a", "UNAVAILABLE").kept((1, "a", ALICE))
    assert story.found() == []


def test_6_errors_that_prove_nothing_are_named_by_the_test() -> None:
    story = Story(indeterminate={"UNAVAILABLE"}).joins(ALICE)
    story.publishes(ALICE, "a").refused(ALICE, "a", "UNAVAILABLE").kept((1, "a", ALICE))
    assert story.found() == []


def test_6_a_message_twice_in_the_history() -> None:
    story = Story().joins(ALICE).publishes(ALICE, "a").kept((1, "a", ALICE), (2, "a", ALICE))
    assert broken(story.found()) == {6}


def test_6_a_message_in_two_logs() -> None:
    story = Story().joins(ALICE).publishes(ALICE, "a").kept((1, "a", ALICE))
    story.kept((1, "a", ALICE), address="lab:other")
    assert broken(story.found()) == {6}


def test_6_a_publish_that_is_answered_twice() -> None:
    story = Story().joins(ALICE).exchange("a").acked(ALICE, "a", 1)
    assert broken(story.found()) == {6}


def test_7_a_private_message_in_a_strangers_hands() -> None:
    story = Story().joins(ALICE, BOB, CAROL).publishes(ALICE, "psst", to=["bob"])
    story.kept((1, "psst", ALICE), address="pm:bob")
    story.receives(BOB, (1, "psst", ALICE), address="pm:bob", type="private")
    assert story.found() == []
    story.receives(CAROL, (1, "psst", ALICE), address="pm:bob", type="private")
    assert broken(story.found()) == {7}


def test_7_one_private_message_to_two_targets_is_in_both_inboxes() -> None:
    story = Story().joins(ALICE, BOB, CAROL).publishes(ALICE, "psst", to=["bob", "carol"])
    for link, address in ((BOB, "pm:bob"), (CAROL, "pm:carol")):
        copy = f"psst.{NAMES[link]}"
        story.kept((1, copy, ALICE), address=address)
        story.receives(link, (1, copy, ALICE), address=address, type="private", message="psst")
    assert story.found() == []


def test_8_presence_is_the_living_connections() -> None:
    story = Story().joins(ALICE, BOB, CAROL)
    story.recorder.disconnected(CAROL)
    assert story.recorder.expected_presence() == {LOG: {"alice", "bob"}}
    assert story.recorder.check_presence({LOG: ["alice", "bob"]}) == []
    assert broken(story.recorder.check_presence({LOG: ["alice", "bob", "carol"]})) == {8}
    assert broken(story.recorder.check_presence({LOG: ["alice"]})) == {8}
    assert broken(story.recorder.check_presence({"lab:empty": ["alice"]})) == {8}


async def test_9_settle_waits_for_the_truth_and_gives_up_at_the_deadline() -> None:
    story = Story().joins(ALICE, BOB).exchange("a")
    reads = 0

    async def history() -> Mapping[str, list[Row]]:
        nonlocal reads
        reads += 1
        if reads == 3:
            story.receives(BOB, (1, "a", ALICE))
        return story.rows

    await story.recorder.settle(history, deadline=30)
    assert reads == 3
    story.publishes(ALICE, "b").acked(ALICE, "b", 2)
    with pytest.raises(AssertionError, match=r"not right within 0.3 s: 1 broken promises\n\(1\) arq_b"):
        await story.recorder.settle(history, deadline=0.3)


def test_a_log_without_its_history_is_not_passed_over() -> None:
    """To judge nothing must not look like finding nothing; what is not to be judged is named."""
    story = Story().joins(ALICE).exchange("a")
    del story.rows[LOG]
    with pytest.raises(ValueError, match="no history given for lab:bench"):
        story.found()
    assert story.found(ignore={LOG}) == []


def test_assert_ok_lists_what_was_broken() -> None:
    story = Story().joins(ALICE).publishes(ALICE, "a").acked(ALICE, "a", 1)
    with pytest.raises(AssertionError, match=r"1 broken promises\n\(1\) arq_a, acknowledged at lab:bench"):
        story.recorder.assert_ok(story.rows)


def test_the_notices_of_the_server_are_no_messages() -> None:
    """client_joined, errors and telemetry without a seq belong to no log."""
    story = Story().joins(ALICE)
    story.recorder.received(
        ALICE,
        {"type": "system", "id": "arq_n", "from": "arqonbus_server", "payload": {"event": "client_joined"}},
    )
    story.recorder.received(ALICE, {"type": "error", "request_id": None, "error": {"code": "INVALID_JSON"}})
    assert story.found() == []


def test_the_record_can_be_read_afterwards(tmp_path: Path) -> None:
    """Every event and remark is one line of JSON, in the order of time."""
    story = Story().joins(ALICE).exchange("a")
    story.recorder.note("kill -9")
    story.recorder.dump(tmp_path / "record.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["connecting", "received", "invoked", "received", "remark"]
    assert lines[-1]["detail"] == "kill -9"
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
