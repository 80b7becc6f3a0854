"""History as a file: what goes out of a database comes into another one as it was."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bus.auth.permissions import SYSTEM, Actor
from bus.models import AuditEntry, Channel, Client, Message, Room, Stream, wire_time
from bus.protocol.errors import BusError
from bus.protocol.names import Address
from bus.services import append_to_stream, archive, end_stream, history, open_stream, publish, send_private

pytestmark = pytest.mark.django_db


def said(*arguments: Any, **options: Any) -> str:
    """What a management command prints."""
    out = io.StringIO()
    call_command(*map(str, arguments), stdout=out, **options)
    return out.getvalue()


def kept() -> list[tuple[Any, ...]]:
    """Every message that is no private one: its time as the wire tells it, its frame as values."""
    rows = Message.objects.exclude(channel__kind=Channel.Kind.INBOX).select_related("channel__room")
    return [
        (
            str(row.channel.address),
            row.seq,
            row.uid,
            row.type,
            row.sender,
            wire_time(row.created_at),
            json.loads(row.frame),
        )
        for row in rows.order_by("channel__room__name", "channel__name", "seq")
    ]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A file with five messages of two channels and one of a whole room; the database still has them."""
    for number in range(4):
        publish("lab:notes", {"n": number, "text": "two\nlines \u2028 and \U0001f52c"}, id=f"m-{number}")
    publish("lab:desk", message="hello")
    publish("lab", message="to all")
    Client.objects.create(client_id="ada")
    send_private("ada", message="psst")
    Message.objects.filter(channel__name="notes", seq=1).delete()
    path = tmp_path / "history.jsonl"
    assert said("export_history", "--output", path) == f"Wrote 5 messages of 3 channels to {path}.\n"
    return path


def forget() -> None:
    """As a new database."""
    Message.objects.all().delete()
    Room.objects.all().delete()


def test_what_is_exported_and_imported_is_the_same_as_before(exported: Path) -> None:
    before = kept()
    # Also for readers that take U+2028 for the end of a line.
    assert len(exported.read_text().splitlines()) == 5
    assert "psst" not in exported.read_text()
    forget()
    assert said("import_history", exported) == "Imported 5 messages.\n"
    assert kept() == before
    # What is published from now on follows.
    assert publish("lab:notes", {"n": 9}).seq == 5
    assert AuditEntry.objects.filter(action="import_history", door="command").count() == 3


def test_an_import_that_was_cut_short_goes_on_where_it_ended(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept()
    forget()
    monkeypatch.setattr(archive, "CHUNK", 2)
    lines = exported.read_text().splitlines(keepends=True)
    exported.write_text("".join([*lines[:4], "{", *lines[4:]]))
    with pytest.raises(
        CommandError, match=r"^Line 5 is not a message of an export: .* The 4 messages before it are imported\.$"
    ):
        said("import_history", exported)
    exported.write_text("".join(lines))
    assert said("import_history", exported) == "Imported 5 messages.\n"
    assert kept() == before
    assert said("import_history", exported) == "Imported 5 messages.\n"
    assert kept() == before


def test_a_channel_with_other_messages_takes_none(exported: Path) -> None:
    forget()
    publish("lab:desk", message="somebody else's")
    with pytest.raises(
        CommandError, match=r"lab:desk already has other messages\. .* The 1 messages before it are imported"
    ):
        said("import_history", exported)
    assert [row[0] for row in kept()] == ["lab:*", "lab:desk"]
    assert kept()[1][6]["message"] == "somebody else's"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"room": "pm", "channel": "ada"}, "is a private message"),
        ({"room": "no room"}, "is not a message of an export"),
        ({"channel": "a:b"}, "is not a message of an export"),
        ({"seq": 0}, "is not a message of an export"),
        ({"seq": 2**63}, "is not a message of an export"),
        ({"timestamp": "noon"}, "is not a message of an export"),
        ({"from": "x" * 65}, "is not a message of an export"),
        ({"id": "x" * 161}, "is not a message of an export"),
        ({"type": 5}, "is not a message of an export"),
    ],
)
def test_a_line_that_is_no_message_is_named_and_nothing_of_it_is_kept(
    exported: Path, change: dict[str, Any], told: str
) -> None:
    forget()
    first = json.loads(exported.read_text().splitlines()[0])
    exported.write_text(json.dumps({**first, **change}) + "\n")
    with pytest.raises(CommandError, match=f"^Line 1 {told}"):
        said("import_history", exported)
    assert not Message.objects.exists()


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LONGEST_LINE", 1000)
    path = tmp_path / "endless"
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(CommandError, match=r"^Line 1 has 1001 bytes\. The limit is 1000"):
        said("import_history", path)


def test_chosen_channels_are_exported_and_wrong_names_are_told(exported: Path) -> None:
    assert said("export_history", "lab:desk", "--output", exported).startswith("Wrote 1 messages of 1 channels")
    assert said("export_history", "lab", "--output", exported).startswith("Wrote 5 messages of 3 channels")
    for address, told in (("nowhere", "There is no room nowhere."), ("lab:none", "There is no channel lab:none.")):
        with pytest.raises(CommandError, match=told):
            said("export_history", address, "--output", exported)
    # What was there stays when nothing is written.
    assert len(exported.read_text().splitlines()) == 5


def test_files_that_cannot_be_read_or_written_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"Cannot read .*: No such file"):
        said("import_history", tmp_path / "none")
    with pytest.raises(CommandError, match=r"Cannot write .*: No such file"):
        said("export_history", "--output", tmp_path / "none" / "file")


def test_history_is_brought_in_by_admins_only(exported: Path) -> None:
    with pytest.raises(BusError, match=r"FORBIDDEN|Only admins"):
        list(archive.take_in(Actor(), enumerate(exported.read_bytes().splitlines(), 1), door="test"))


def test_an_imported_answer_is_a_stream_again(tmp_path: Path) -> None:
    """A folded history shows it as one message. One that was open has no content in the file."""
    for of, ends in (("arq_a1", True), ("arq_a2", False)):
        open_stream("lab:notes", id=of)
        append_to_stream(of, 1, "Hello")
        if ends:
            end_stream(of, 1, payload={"usage": 3})
    path = tmp_path / "history.jsonl"
    said("export_history", "--output", path)
    before = Stream.objects.values("uid", "seq", "state", "have", "bytes", "end_seq", "mode").get(uid="arq_a1")
    forget()
    assert not Stream.objects.exists()
    said("import_history", path)
    said("import_history", path)
    assert list(Stream.objects.values(*before)) == [before]
    page = history.page(SYSTEM, history.Question(Address("lab", "notes"), fold=True, descending=False))
    answer, opening = (json.loads(message.frame) for message in page.messages)
    assert (answer["message"], answer["end_payload"], answer["stream"]["state"]) == ("Hello", {"usage": 3}, "complete")
    assert (opening["id"], opening["stream"]) == ("arq_a2", {"mode": "text"})


def test_a_forged_end_makes_no_stream(tmp_path: Path) -> None:
    """Neither does a message of that type from the time before there were streams."""
    publish("lab:notes", {"n": 1}, id="arq_m")
    path = tmp_path / "history.jsonl"
    said("export_history", "--output", path)
    line = json.loads(path.read_text())
    ends: list[dict[str, Any]] = [
        {"of": "arq_other", "of_seq": 1, "stream": {"mode": "text", "state": "complete", "parts": 1}},
        {"of": "arq_m", "of_seq": 1, "stream": {"mode": "text", "state": "open", "parts": 1}},
        {"of": "arq_m", "of_seq": 9, "stream": {"mode": "text", "state": "complete", "parts": 1}},
        {},
    ]
    forged = [{**line, "type": "stream_end", "id": f"arq_{n}", "seq": n, **end} for n, end in enumerate(ends, 2)]
    path.write_text("".join(json.dumps(one) + "\n" for one in (line, *forged)))
    forget()
    said("import_history", path)
    assert (Message.objects.count(), Stream.objects.count()) == (5, 0)
