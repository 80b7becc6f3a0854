"""The management commands, as an operator calls them."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from bus.auth import identity
from bus.models import AccessToken, AuditEntry, Channel, Client, Message, Node, Room
from bus.protocol.errors import BusError
from bus.services import publish

pytestmark = pytest.mark.django_db


def _said(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def test_seeding_says_what_it_did_and_does_it_once() -> None:
    said = _said("seed_science_rooms").splitlines()
    assert "created room science" in said
    for channel in ("general", "explore", "hypothesize", "design", "execute", "interpret", "share"):
        assert f"created channel science:{channel}" in said
    assert "created channel integriguard:telemetry-stream" in said
    assert "created channel integriguard:dashboard-events" in said
    rows = set(Channel.objects.values_list("room__name", "name", "hardcoded"))
    assert "nothing to do" in _said("seed_science_rooms")
    assert set(Channel.objects.values_list("room__name", "name", "hardcoded")) == rows


def test_seeding_mends_what_is_missing_and_leaves_the_rest() -> None:
    _said("seed_science_rooms")
    Channel.objects.filter(room__name="science", name="share").delete()
    Channel.objects.filter(room__name="science", name="general").update(description="ours")
    Room.objects.filter(name="science").update(hardcoded=False)
    assert _said("seed_science_rooms").splitlines() == ["room science is built in now", "created channel science:share"]
    assert Channel.objects.get(room__name="science", name="general").description == "ours"


def test_a_token_is_printed_alone_on_the_last_line_and_kept_as_a_hash() -> None:
    secret = _said("create_token", "ops").splitlines()[-1]
    actor = identity.from_token(secret)
    assert (actor.token, actor.admin) == ("ops", False)
    assert not AccessToken.objects.filter(digest=secret).exists()
    assert AuditEntry.objects.filter(action="create_token", door="command").exists()
    assert identity.from_token(_said("create_token", "boss", "--admin").splitlines()[-1]).admin


def test_a_token_can_be_bound_to_a_user_scopes_and_a_time(django_user_model: type) -> None:
    with pytest.raises(CommandError, match="createsuperuser"):
        _said("create_token", "x", "--user", "nobody")
    django_user_model.objects.create_user("ada")  # type: ignore[attr-defined]
    said = _said("create_token", "x", "--user", "ada", "--scope", "join", "--scope", "publish", "--days", "1")
    actor = identity.from_token(said.splitlines()[-1])
    assert (actor.user, actor.scopes) == ("ada", frozenset({"join", "publish"}))
    AccessToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(BusError, match="UNAUTHENTICATED"):
        identity.from_token(said.splitlines()[-1])


def test_pruning_drops_what_is_beyond_the_retention_and_says_how_much() -> None:
    for number in range(10):
        publish("lab:notes", {"n": number})
        publish("lab:kept", {"n": number})
    Channel.objects.filter(room__name="lab", name="kept").update(retention_count=8)
    assert _said("prune_history", count=3) == "Deleted 9 messages.\n"
    left = Message.objects.filter(channel__room__name="lab", channel__name="notes").values_list("seq", flat=True)
    assert sorted(left) == [8, 9, 10]
    assert _said("prune_history", count=3) == "Deleted 0 messages.\n"
    Message.objects.filter(channel__name="notes", seq=8).update(created_at=timezone.now() - timedelta(hours=2))
    assert _said("prune_history", count=0, age=3600.0) == "Deleted 1 messages.\n"


def test_all_logs_get_new_epochs() -> None:
    publish("lab:notes", {"n": 1})
    Client.objects.create(client_id="ada")
    publish("pm:ada", {"n": 2})
    before = dict(Channel.objects.values_list("id", "epoch"))
    # A backup holds the processes that served when it was made.
    Node.objects.create(id="n1", host="here", pid=1, version="1")
    Node.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))
    assert _said("new_epochs").startswith(f"{len(before)} channels have a new epoch.")
    after = dict(Channel.objects.values_list("id", "epoch"))
    assert after.keys() == before.keys()
    assert all(after[channel] != before[channel] for channel in before)
    assert AuditEntry.objects.get(action="new_epochs").door == "command"


def test_pruning_says_beforehand_how_much_would_go() -> None:
    for number in range(5):
        publish("lab:notes", {"n": number})
    assert _said("prune_history", count=2, dry_run=True) == "3 messages are beyond the retention.\n"
    assert Message.objects.count() == 5
    with pytest.raises(CommandError, match="must not be negative"):
        _said("prune_history", count=-1)


def test_tokens_are_listed_and_revoked_by_number_or_name() -> None:
    assert "create_token" in _said("tokens", "list")
    secret = _said("create_token", "ops", "--admin").splitlines()[-1]
    _said("create_token", "twin")
    _said("create_token", "twin", "--scope", "join")
    listed = _said("tokens", "list")
    assert _said("tokens") == listed
    assert secret not in listed
    assert [line.split()[1] for line in listed.splitlines()[1:]] == ["twin", "twin", "ops"]
    with pytest.raises(CommandError, match=r"2 tokens have the name 'twin'\. Give the number of one"):
        _said("tokens", "revoke", "twin")
    with pytest.raises(CommandError, match="no valid token 'none'"):
        _said("tokens", "revoke", "none")
    _said("tokens", "revoke", "ops")
    with pytest.raises(BusError, match="UNAUTHENTICATED"):
        identity.from_token(secret)
    _said("tokens", "revoke", str(AccessToken.objects.filter(name="twin").earliest("pk").pk))
    assert len(_said("tokens", "list").splitlines()) == 2
    assert len(_said("tokens", "list", "--all").splitlines()) == 4
    assert AuditEntry.objects.filter(action="revoke_token", door="command").count() == 2


def test_grants_are_added_listed_and_removed() -> None:
    assert "There are no grants" in _said("grants", "list")
    made = _said("grants", "add", "user:ada", "join", "lab:*", "--deny")
    assert "user ada may not join lab:*" in made
    assert "There is no user ada yet" in made
    _said("grants", "add", "anonymous", "*", "science:*")
    rows = _said("grants", "list").splitlines()[1:]
    assert [row.split()[1:5] for row in rows] == [
        ["user:ada", "may", "not", "join"],
        ["anonymous", "may", "*", "science:*"],
    ]
    for wrong, argument in (
        (("ada", "join", "lab:*"), "subject"),
        (("user:ada", "look", "lab:*"), "action"),
        (("user:ada", "join", "lab room"), "pattern"),
        (("user", "join", "x"), "subject_name"),
    ):
        with pytest.raises(CommandError, match=rf"^{argument}: "):
            _said("grants", "add", *wrong)
    assert _said("grants") == _said("grants", "list")
    number = rows[0].split()[0]
    _said("grants", "remove", number)
    assert len(_said("grants", "list").splitlines()) == 2
    with pytest.raises(CommandError, match=f"no grant {number}"):
        _said("grants", "remove", number)
