"""`bus.contrib.tasks`: what happens to a task is told on its channel, whichever system runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from bus.contrib.tasks import Run, address_of, from_django, progress
from bus.contrib.tasks.conf import config
from bus.models import Channel, Message, Room
from tests.contrib import queues

SIGNALS = f"{queues.TASKS}.signals"


@pytest.fixture
def told_by_django() -> Iterator[None]:
    """Django's tasks are told of."""
    from_django.connect(SIGNALS)
    yield
    from_django.disconnect(SIGNALS)


def told(key: str) -> list[dict[str, Any]]:
    """What was told of a task."""
    found = Message.objects.filter(channel__room__name="tasks", channel__name=key).order_by("seq")
    return [json.loads(message.frame)["payload"] for message in found]


def states(key: str) -> list[Any]:
    """What was told of a task, in short."""
    return [(one["state"], one["progress"]["done"] if "progress" in one else None) for one in told(key)]


# --- Django -----------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("task", [queues.count, queues.count_asleep], ids=["def", "async"])
def test_a_task_of_django_is_told_from_queue_to_end(told_by_django: None, settings: Any, task: Any) -> None:
    settings.BUS_TASKS = {"interval": 0, "retention_count": 7}
    key = task.enqueue(3).id
    assert states(key) == [("queued", None), ("running", None), *(("running", n) for n in (1, 2, 3)), ("succeeded", 3)]
    assert {one["name"] for one in told(key)} == {task.module_path}
    assert {one["task"] for one in told(key)} == {key}
    channel = Channel.objects.get(room__name="tasks", name=key)
    assert (channel.room.private, channel.auto_created) == (True, True)
    assert (channel.retention_count, channel.retention_age) == (7, 86_400)


@pytest.mark.django_db
def test_a_loop_may_say_each_step(told_by_django: None, settings: Any) -> None:
    settings.BUS_TASKS = {"interval": 3600}
    key = queues.count.enqueue(1000).id
    assert states(key)[2:] == [("running", 1), ("running", 1000), ("succeeded", 1000)]


@pytest.mark.django_db
def test_a_failure_is_told_without_its_text(told_by_django: None) -> None:
    key = queues.spoil.enqueue().id
    last = told(key)[-1]
    assert (last["state"], last["error"], last["progress"]) == ("failed", "LookupError", {"done": 1, "total": 2})
    assert "secret" not in json.dumps(told(key))


@pytest.mark.django_db
def test_a_task_runs_also_where_the_bus_cannot_tell_of_it(told_by_django: None, settings: Any) -> None:
    settings.BUS_TASKS = {"channel": lambda run: "no address"}
    assert str(queues.count.enqueue(2).status) == "SUCCESSFUL"
    settings.BUS_TASKS = {"channel": lambda run: None}
    assert str(queues.count.enqueue(2).status) == "SUCCESSFUL"
    assert not Message.objects.exists()


@pytest.mark.django_db
def test_a_project_chooses_the_channel(told_by_django: None, settings: Any) -> None:
    Room.objects.create(name="users")
    settings.BUS_TASKS = {"channel": lambda run: f"users:user-{run.args[0]}/{run.id}"}
    key = queues.count.enqueue(2).id
    assert Message.objects.filter(channel__room__name="users", channel__name=f"user-2/{key}").count() >= 3
    assert not Room.objects.get(name="users").private


def test_nothing_is_told_outside_of_a_task() -> None:
    assert progress(1, 2) is False
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            progress(wrong)
        with pytest.raises(ValueError, match="finite"):
            progress(1, wrong)


def test_any_id_has_a_channel() -> None:
    assert str(address_of("a1-b2")) == "tasks:a1-b2"
    odd = address_of("an id with spaces")
    assert odd is not None
    assert odd == address_of(Run("an id with spaces", "name"))
    assert odd != address_of("another id with spaces")


@pytest.mark.parametrize(
    "wrong",
    [{"rooms": "x"}, {"channel": "no.such.function"}, {"channel": 7}, {"retention_count": 0}, {"interval": -1}, []],
)
def test_wrong_settings_are_named(settings: Any, wrong: Any) -> None:
    settings.BUS_TASKS = wrong
    with pytest.raises(ImproperlyConfigured, match="BUS_TASKS"):
        config()
