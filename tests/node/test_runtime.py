"""The runtime: work in database threads, and background tasks that outlive their failures."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from django.db import OperationalError, connection

from bus.models import Room
from bus.node import Node
from bus.protocol.errors import BusError
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def _thread() -> str:
    return threading.current_thread().name


async def test_each_kind_of_work_has_a_thread_of_its_own(node: Node) -> None:
    runtime = node.runtime
    names = [
        (await call(_thread)).rpartition("_")[0]
        for call in (runtime.run, runtime.ask, runtime.run_watcher, runtime.run_writer)
    ]
    assert names == ["arqonbus-read", "arqonbus-ask", "arqonbus-watch", "arqonbus-log"]


async def test_arguments_and_errors_pass_through(node: Node) -> None:
    assert await node.runtime.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await node.runtime.run_writer(divmod, 1, 0)


async def test_a_read_whose_connection_died_is_done_once_more(node: Node) -> None:
    failures = [OperationalError("the server was restarted")]

    def fails_once() -> int:
        if failures:
            raise failures.pop()
        return Room.objects.count()

    # `connection` is another one in each thread.
    await node.runtime.run(lambda: connection.ensure_connection())
    assert await node.runtime.run(fails_once) >= 0
    assert not failures


async def test_a_closed_writer_connection_is_replaced_after_its_error(node: Node) -> None:
    failures = [OperationalError("the server closed the connection")]

    def fails_once() -> int:
        if failures:
            raise failures.pop()
        return Room.objects.count()

    with pytest.raises(OperationalError):
        await node.runtime.run_writer(fails_once)
    assert await node.runtime.run_writer(fails_once) >= 0


async def test_the_writer_is_idle_after_the_work_before(node: Node) -> None:
    go_on = threading.Event()
    done: list[bool] = []
    node.runtime.spawn(_append(node, go_on, done))
    await asyncio.sleep(0)
    idle = asyncio.ensure_future(node.runtime.writer_idle())
    await asyncio.sleep(0)
    assert not idle.done()
    go_on.set()
    await idle
    assert done == [True]


async def _append(node: Node, go_on: threading.Event, done: list[bool]) -> None:
    def work() -> bool:
        return go_on.wait(30)

    done.append(await node.runtime.run_writer(work))


async def test_regular_work_goes_on_after_a_failure(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []

    async def work() -> float:
        turns.append(len(turns))
        if len(turns) == 1:
            raise OperationalError("gone")
        if len(turns) == 2:
            raise ValueError("a fault")
        return 0.0

    assert not node.runtime.repeating
    with caplog.at_level(logging.ERROR, "arqonbus.node"):
        node.runtime.repeat(work)
        await wait_for(lambda: len(turns) > 3, "further turns")
    # An outage of the database is said by the heartbeat; a fault is said here.
    assert [record.event for record in caplog.records] == ["heartbeat_failed"]  # type: ignore[attr-defined]
    node.runtime.stop_repeating()


async def test_a_short_task_is_kept_until_it_ends(node: Node) -> None:
    go_on = asyncio.Event()
    node.runtime.spawn(_wait_for(go_on))
    assert len(node.runtime.short_tasks) == 1
    go_on.set()
    await wait_for(lambda: not node.runtime.short_tasks, "its end")


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_node_whose_database_is_away_starts_with_the_next_connection(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(own: list[str]) -> None:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "arqonbus.node"):
        patch.setattr(node, "_prepare", away)
        for _ in range(2):
            with pytest.raises(BusError, match="UNAVAILABLE"):
                await node.start()
    # It is said once.
    assert [record.event for record in caplog.records] == ["not_started"]  # type: ignore[attr-defined]
    await node.start()
    assert node.runtime.repeating
    await node.stop()
