"""Functions of a project that get each message: `on`, `run_handlers` and `manage.py runhandlers`."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone

from bus import handlers, services
from bus.auth.permissions import SYSTEM, Actor
from bus.checks.bus import check_handlers
from bus.handlers import DEAD, HandledMessage, on, positions
from bus.handlers.board import Board
from bus.handlers.handling import Outcome, handle_next
from bus.log import hops
from bus.models import AuditEntry, Channel, Counter, Handler, HandlerPosition, Membership, Message, Room
from bus.monitoring import metrics
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address
from bus.services import apublish, publish, publish_all
from bus.services import handlers as service
from bus.testing import run_handlers

pytestmark = pytest.mark.django_db(transaction=True)

ORDERS = Address("shop", "orders")


@pytest.fixture(autouse=True)
def _none() -> Iterator[None]:
    before = list(handlers.REGISTERED)
    handlers.REGISTERED.clear()
    yield
    handlers.REGISTERED[:] = before


def at(address: Address = ORDERS, name: str = "billing") -> HandlerPosition:
    return HandlerPosition.objects.get(
        handler__name=name, channel__room__name=address.room, channel__name=address.channel
    )


def counted() -> int:
    return sum(Counter.objects.filter(name="orders").values_list("value", flat=True))


def count(number: int = 1) -> None:
    row, _ = Counter.objects.get_or_create(name="orders", defaults={"value": 0})
    Counter.objects.filter(pk=row.pk).update(value=F("value") + number)


def run(*arguments: str, **options: Any) -> str:
    said = io.StringIO()
    call_command("runhandlers", *arguments, until_empty=True, stdout=said, stderr=said, **options)
    return said.getvalue()


def dead() -> list[dict[str, Any]]:
    return [row.as_dict()["payload"] for row in Message.objects.filter(channel__room__name=DEAD.room).order_by("seq")]


def test_a_handler_gets_each_message_of_its_channels_once_and_in_order() -> None:
    got: list[HandledMessage] = []

    @on("shop:*", name="billing", types=["event"])
    def billing(message: HandledMessage) -> None:
        got.append(message)
        count()

    publish(ORDERS, {"n": 0})
    assert "billing handles shop:* as billing." in run()
    assert got == []  # It began behind what was there.
    publish_all([(ORDERS, {"n": 1}), (ORDERS, {"n": 2})])
    publish("shop:new", {"n": 3}, message="hello", metadata={"a": 1})
    publish("shop:new", {"n": 4}, type="other")
    publish("other:new", {"n": 5})
    run(threads=2)
    assert [message.payload["n"] for message in got if message.channel == "orders"] == [1, 2]
    (new,) = (message for message in got if message.channel == "new")
    assert (new.address, new.seq, new.type, new.sender, new.message, new.metadata, new.attempt) == (
        "shop:new", 1, "event", "arqonbus_server", "hello", {"a": 1}, 1,
    )  # fmt: skip
    assert (new.frame["id"], new.timestamp.tzinfo is not None) == (new.id, True)
    assert counted() == 3
    run()
    assert (counted(), at(Address("shop", "new")).seq) == (3, 2)


def test_a_failure_is_rolled_back_and_tried_again_later_and_other_channels_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @on("shop:*", name="billing", attempts=3, since="start")
    def billing(message: HandledMessage) -> None:
        count()
        if message.payload.get("secret"):
            raise ValueError(message.payload["secret"])

    publish_all([(ORDERS, {"secret": "sesame"}), (ORDERS, {}), ("shop:other", {})])
    run()
    assert counted() == 1  # the other channel's
    position = at()
    assert (position.seq, position.attempt, position.failed, position.state) == (0, 1, 1, "running")
    assert position.retry_at is not None
    assert timedelta(0) < position.retry_at - timezone.now() <= timedelta(seconds=2)
    kind, _, reference = position.error.partition(" ")
    (line,) = (record.getMessage() for record in caplog.records if record.name == "arqonbus.handlers")
    assert kind == "ValueError"
    assert reference.strip("()") in line
    assert "in billing" in line
    assert "sesame" not in line
    run()
    assert at().attempt == 1
    assert run_handlers(raises=False) == 1  # all attempts, and then the message behind
    (letter,) = dead()
    assert letter == {
        "handler": "billing", "room": "shop", "channel": "orders", "seq": 1, "attempts": 3, "error": "ValueError",
        "id": Message.objects.get(seq=1, channel__name="orders").uid, "reference": letter["reference"],
    }  # fmt: skip
    assert (counted(), at().seq, at().failed, at().handled) == (2, 2, 3, 1)
    assert Room.objects.get(name="handlers").private


def test_a_commit_that_fails_counts_as_a_failure_of_its_message() -> None:
    @on("shop:orders", name="billing", attempts=2)
    def billing(message: HandledMessage) -> None:
        Membership.objects.bulk_create([Membership(client_id=77, channel_id=78)])

    publish(ORDERS, {})
    assert run_handlers(raises=False) == 0
    assert [letter["error"] for letter in dead()] == ["IntegrityError"]
    assert (at().seq, at().failed) == (1, 2)


def test_a_commit_that_fails_behind_messages_that_were_passed_over_counts_too() -> None:
    @on("shop:orders", name="billing", attempts=2, types=["order"])
    def billing(message: HandledMessage) -> None:
        Membership.objects.bulk_create([Membership(client_id=77, channel_id=78)])

    publish_all([(ORDERS, {}), (ORDERS, {})])
    publish(ORDERS, {}, type="order")
    (handler,) = handlers.chosen()
    found = positions.begin(handler, since="start")
    positions.discover(found, handler)
    for _ in range(2):
        assert handle_next(handler, at().pk, "test").outcome is Outcome.FAILED
    assert [letter["error"] for letter in dead()] == ["IntegrityError"]
    assert (at().seq, at().failed) == (3, 2)


def test_an_erased_message_is_passed_over() -> None:
    got: list[int] = []

    @on("shop:orders", name="billing", on_error="stop", attempts=1)
    def billing(message: HandledMessage) -> None:
        got.append(message.payload["n"])

    for n in range(1, 4):
        publish(ORDERS, {"n": n})
    services.erase_message(ORDERS, seq=1)
    services.erase_message(ORDERS, seq=3)
    assert run_handlers() == 1
    assert (got, at().seq, at().lost) == ([2], 3, 0)


def test_a_pattern_that_was_narrowed_leaves_the_other_channels_alone() -> None:
    got: list[str] = []

    @on("shop:*", name="billing")
    def billing(message: HandledMessage) -> None:
        got.append(message.address)

    publish_all([(ORDERS, {}), ("shop:other", {})])
    assert run_handlers() == 2
    handlers.REGISTERED[0] = handlers.REGISTERED[0]._replace(pattern="shop:orders")
    publish_all([(ORDERS, {}), ("shop:other", {})])
    assert run_handlers() == 1
    assert sorted(got) == ["shop:orders", "shop:orders", "shop:other"]
    assert at(Address("shop", "other")).seq == 2


def test_with_stop_a_handler_waits_for_an_operator() -> None:
    broken = [True]

    @on("shop:*", name="billing", attempts=1, on_error="stop")
    def billing(message: HandledMessage) -> None:
        count()
        if broken:
            raise ValueError("sesame")

    publish_all([(ORDERS, {}), (ORDERS, {}), (ORDERS, {})])
    run_handlers(raises=False)
    assert (at().state, at().seq, dead()) == ("stopped", 0, [])
    (row,) = service.rows()
    assert (row.lag, row.stopped, row.positions[0].lag, row.positions[0].state) == (3, 1, 3, "stopped")
    assert "billing at shop:orders after #0: stopped, ValueError" in run(list=True)
    with pytest.raises(BusError, match="NOT_FOUND"):
        service.retry(SYSTEM, "unknown", ORDERS)
    with pytest.raises(CommandError, match="Name one handler"):
        run(retry="shop:orders")
    assert run("billing", skip="shop:orders") == "billing goes on at shop:orders.\n"
    run()
    assert (at().state, at().seq, at().attempt) == ("stopped", 1, 1)
    broken.clear()
    run("billing", retry="shop:orders")
    run()
    assert (at().state, at().seq, counted()) == ("running", 3, 2)
    with pytest.raises(BusError, match="no message to skip"):
        service.skip(SYSTEM, "billing", ORDERS)
    assert list(AuditEntry.objects.order_by("id").values_list("action", "door")) == [
        ("handler.skip", "command"),
        ("handler.retry", "command"),
    ]
    with pytest.raises(CommandError, match="a process runs it"):
        run("billing", forget=True)
    Handler.objects.update(seen_at=timezone.now() - timedelta(seconds=service.GONE_AFTER))
    assert run("billing", forget=True) == "billing is forgotten.\n"
    assert not HandlerPosition.objects.exists()
    with pytest.raises(CommandError, match="There is no handler billing"):
        run("billing", forget=True)
    with pytest.raises(BusError, match="FORBIDDEN"):
        service.forget(Actor(), "billing", has_function=False)


def test_a_handler_that_was_forgotten_while_it_ran_runs_no_longer_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    got: list[str] = []

    @on("shop:*", name="stays")
    @on("shop:*", name="billing")
    def noted(message: HandledMessage) -> None:
        got.append(message.address)

    board, never = Board(handlers.chosen()), threading.Event()
    publish(ORDERS, {})
    assert "never" in run(list=True).splitlines()[1]
    assert board.empty()
    assert "yes" in run(list=True).splitlines()[1]
    handlers.REGISTERED[:] = [one for one in handlers.REGISTERED if one.name != "billing"]
    assert run("billing", forget=True) == "billing is forgotten.\n"
    publish("shop:new", {})
    assert not board.empty()
    assert board.work_once("test", never)
    assert board.empty()
    assert got == ["shop:new"]
    assert not Handler.objects.filter(name="billing").exists()
    assert "billing was forgotten while it ran" in caplog.text


def test_handlers_that_publish_to_one_another_are_stopped() -> None:
    @on("shop:a", name="ping", attempts=5)
    def ping(message: HandledMessage) -> None:
        publish("shop:b", message.payload)

    @on("shop:b", name="pong", attempts=5)
    def pong(message: HandledMessage) -> None:
        publish("shop:a", message.payload, durable=False)

    publish("shop:a", {})
    handled = run_handlers(raises=False)
    assert handled == hops.MOST
    (letter,) = dead()
    assert (letter["error"], letter["attempts"]) == ("BusError", 1)
    assert max(Message.objects.values_list("hops", flat=True)) == hops.MOST
    publish("shop:a", {})
    with pytest.raises(BusError) as refused:
        run_handlers()
    assert refused.value.code == ErrorCode.LOOP_DETECTED
    assert Message.objects.get(channel__name="a", seq=Channel.objects.get(name="a").head).hops == hops.MOST
    publish("shop:c", {})
    assert Message.objects.get(channel__name="c").hops == 0


def test_a_handler_of_dead_messages_that_fails_gets_no_letter_about_letters() -> None:
    @on("*:*", name="all", attempts=1)
    @on("handlers:dead", name="mourner", attempts=1)
    def fails(message: HandledMessage) -> None:
        raise ValueError

    publish(ORDERS, {})
    run_handlers(raises=False)
    assert [letter["handler"] for letter in dead()] == ["all"]
    assert at(DEAD, "mourner").seq == 1


async def test_an_asynchronous_handler_runs_under_a_lease_and_without_a_transaction() -> None:
    from asgiref.sync import sync_to_async

    got: list[Any] = []

    @on("shop:orders", name="billing", attempts=2)
    async def billing(message: HandledMessage) -> None:
        got.append((await sync_to_async(at)()).holder)
        await apublish("shop:billed", message.payload)
        if message.payload.get("fails"):
            raise ValueError("sesame")

    def test() -> None:
        publish_all([(ORDERS, {}), (ORDERS, {"fails": 1})])
        assert run_handlers(raises=False) == 1
        assert got == ["test"] * 3
        # Nothing is rolled back: both attempts published.
        billed = Message.objects.filter(channel__name="billed")
        assert [row.hops for row in billed] == [1, 1, 1]
        assert (at().seq, at().holder, at().lease_until, len(dead())) == (2, "", None, 1)
        # Nobody else calls it during the lease, and a lease that was lost moves nothing.
        publish(ORDERS, {})
        HandlerPosition.objects.update(lease_until=timezone.now() + timedelta(hours=1))
        run()
        assert at().seq == 2
        HandlerPosition.objects.update(lease_until=None)

        @on("shop:orders", name="thief")
        async def stolen(message: HandledMessage) -> None:
            await HandlerPosition.objects.filter(handler__name="thief").aupdate(holder="another")

        registered = handlers.REGISTERED[-1]
        thief = positions.begin(registered, since="start")
        position = HandlerPosition.objects.get(handler=thief)
        Channel.objects.filter(name="orders").update(head=3)
        assert handle_next(registered, position.pk, "me").outcome is Outcome.BUSY
        position.refresh_from_db()
        assert (position.seq, position.handled) == (0, 0)

    await sync_to_async(test)()


def test_removed_messages_are_a_hole_that_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    got: list[int] = []

    @on("shop:orders", name="billing")
    def billing(message: HandledMessage) -> None:
        got.append(message.seq)

    publish_all([(ORDERS, {})] * 5)
    run_handlers()
    publish_all([(ORDERS, {})] * 5)
    Message.objects.filter(channel__name="orders", seq__lte=8).delete()
    run_handlers()
    assert got == [1, 2, 3, 4, 5, 9, 10]
    assert at().lost == 3
    assert "3 messages were removed" in caplog.text
    # The log of an older backup: what is kept is handled again.
    Channel.objects.filter(name="orders").update(head=9, epoch="anew")
    Message.objects.filter(channel__name="orders", seq=10).delete()
    run_handlers()
    assert (got[-1], at().epoch, at().seq) == (9, "anew", 9)


def test_in_the_transaction_of_a_test_case_handlers_run_too() -> None:
    @on("shop:orders", name="billing")
    def billing(message: HandledMessage) -> None:
        count()
        if message.payload.get("fails"):
            raise ValueError("sesame")

    with transaction.atomic():
        publish(ORDERS, {})
        assert run_handlers("billing") == 1
        publish(ORDERS, {"fails": True})
        with pytest.raises(ValueError, match="sesame"):
            run_handlers()
        assert counted() == 1
        transaction.set_rollback(True)


def test_handlers_that_cannot_run_are_named() -> None:
    on("pm:*", name="inboxes")(lambda message: None)
    on("a b:c", name="spaces")(lambda message: None)
    on("shop:*", name="twice")(lambda message: None)
    on("shop:*", name="twice", attempts=0, since="later", on_error="cry")(lambda: None)  # type: ignore[arg-type,type-var]

    @on("shop:*", name=" ")
    def generates(message: HandledMessage) -> Iterator[None]:
        yield

    texts = [message.msg for message in check_handlers() if message.id == "bus.E020"]
    for wrong in (
        "one inbox", "matches no address", "the name of another", "0 attempts", "since='later'", "on_error='cry'",
        "cannot be called with one message", "no usable name", "is a generator",
    ):  # fmt: skip
        assert any(wrong in text for text in texts), wrong
    misplaced = [message.msg for message in check_handlers() if message.id == "bus.W020"]
    assert "is in no module that runhandlers imports" in misplaced[0]
    with pytest.raises(CommandError, match="one inbox"):
        run("inboxes")
    with pytest.raises(CommandError, match="No handler has the name other"):
        run("other")
    with pytest.raises(ValueError, match="No handler has the name other"):
        run_handlers("other")
    with pytest.raises(ValueError, match="one inbox"):
        run_handlers("inboxes")
    handlers.REGISTERED.clear()
    with pytest.raises(CommandError, match="No app has a module handlers"):
        run()
    on("pm:alice", name="inbox")(lambda message: None)
    assert not [message for message in check_handlers() if message.id == "bus.E020"]


def test_operators_see_a_handler_that_stands_still_and_help_it(admin_client: Client) -> None:
    @on("shop:*", name="billing", attempts=1, on_error="stop")
    def billing(message: HandledMessage) -> None:
        raise ValueError("sesame")

    publish_all([(ORDERS, {}), (ORDERS, {}), (ORDERS, {})])
    run_handlers(raises=False)
    lines = metrics.page(metrics.of_handlers(service.figures())).decode()
    for line in ("lag", "failed_total", "stopped", "running"):
        assert f'arqonbus_handler_{line}{{handler="billing"}} {3.0 if line == "lag" else 1.0}' in lines
    (row,) = admin_client.get("/api/v1/handlers").json()["results"]
    assert (row["name"], row["lag"], row["positions"][0]["error"].split()[0]) == ("billing", 3, "ValueError")
    path, wanted = "/api/v1/channels/shop:orders/handlers", {"handler": "billing", "next": "skip"}
    assert admin_client.post(path, wanted, content_type="application/json").status_code == 204
    assert (at().seq, at().state) == (1, "running")
    run_handlers(raises=False)
    assert Client().get("/api/v1/handlers").status_code in (401, 403)
    assert Client().post(path, wanted, content_type="application/json").status_code in (401, 403)
    assert at().state == "stopped"
    page = "/admin/bus/handlerposition/"
    for action in ("retry", "skip"):
        told = admin_client.post(page, {"action": action, "_selected_action": [at().pk]}, follow=True)
        assert "1 handler goes on." in told.content.decode()
        assert at().state == "running"
    assert at().seq == 2
    run_handlers(raises=False)
    admin_client.post(page, {"action": "skip", "_selected_action": [at().pk]})
    told = admin_client.post(page, {"action": "skip", "_selected_action": [at().pk]}, follow=True)
    assert "has no message to skip" in told.content.decode()


# On SQLite the transaction of the handler has the whole database.
@pytest.mark.cluster
def test_a_position_that_is_at_work_is_left_alone() -> None:
    @on("shop:*", name="billing", attempts=1, on_error="stop")
    def billing(message: HandledMessage) -> None:
        with ThreadPoolExecutor(1) as thread:
            refused.append(thread.submit(helped).result(30))

    def helped() -> Any:
        try:
            service.retry(SYSTEM, "billing", ORDERS)
        except BusError as problem:
            return problem.code
        finally:
            connection.close()

    refused: list[Any] = []
    publish(ORDERS, {})
    run_handlers()
    assert refused == [ErrorCode.BUSY]
