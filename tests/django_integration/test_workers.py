"""Functions of a project that do jobs: `work_on` and `manage.py runworkers`."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from bus import services, workers
from bus.auth.permissions import SYSTEM
from bus.models import Job, Room
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import Address
from bus.services import channels
from bus.services import work as work_service
from bus.workers import Registered, Rejected, as_worker, work_on, work_once

pytestmark = pytest.mark.django_db(transaction=True)

NEW = Address("jobs", "new")
ROBOT = as_worker("robot")


@pytest.fixture(autouse=True)
def _channel() -> Iterator[None]:
    channels.create_channel(SYSTEM, NEW, work={"attempts": 2, "dead": "jobs:dead"})
    before = list(workers.REGISTERED)
    workers.REGISTERED.clear()
    yield
    workers.REGISTERED[:] = before


def job() -> Job:
    return Job.objects.get(channel__name="new")


def once(function: workers.Function) -> bool:
    return work_once(Registered("jobs:new", function), ROBOT)


def test_the_result_of_the_function_ends_the_job() -> None:
    services.publish(NEW, {"n": 2})

    @work_on("jobs:new")
    def double(job: workers.Job) -> dict[str, int]:
        return {"doubled": job.payload["n"] * 2 + job.attempt + job.seq}

    said = io.StringIO()
    call_command("runworkers", "jobs:new", until_empty=True, stdout=said)
    assert "double works on jobs:new." in said.getvalue()
    assert (job().state, job().result) == ("done", '{"doubled":6}')
    assert job().client_id.startswith("worker-")


def test_a_claim_that_is_refused_for_a_while_does_not_end_the_command(settings: Any) -> None:
    services.publish_all([(NEW, {})] * 3)
    done: list[int] = []

    @work_on("jobs:new")
    def first(job: workers.Job) -> None:
        name = Job.objects.get(seq=job.seq).client_id
        services.claim_jobs(NEW, actor=as_worker(name))
        settings.ARQONBUS = {**settings.ARQONBUS, "claims": 1}
        done.append(job.seq)

    said = io.StringIO()
    call_command("runworkers", until_empty=True, stdout=io.StringIO(), stderr=said)
    assert (done, said.getvalue()) == ([1], "You have 1 jobs, which is the limit. End one first.\n")


def test_the_function_and_the_end_of_its_job_are_one_transaction() -> None:
    services.publish(NEW, {"n": 1})

    def fails(job: workers.Job) -> None:
        Room.objects.create(name="half")
        raise ValueError("no disk")

    assert once(fails)
    assert not Room.objects.filter(name="half").exists()
    (failure,) = job().errors
    assert (job().state, failure["error"], failure["by"]) == ("ready", "ValueError: no disk", "robot")
    # The next attempt waits a while.
    assert not once(fails)
    Job.objects.update(due_at="2020-01-01T00:00:00Z")
    assert once(fails)
    assert job().state == "dead"

    def lost(job: workers.Job) -> None:
        Room.objects.create(name="half")
        Job.objects.filter(channel__name="new").update(claims=99)

    work_service.retry(SYSTEM, NEW, 1)
    assert once(lost)
    assert not Room.objects.filter(name="half").exists()


def test_the_log_says_where_a_job_failed_and_none_of_its_text(caplog: pytest.LogCaptureFixture) -> None:
    services.publish(NEW, {"secret": "sesame"})

    def opens(job: workers.Job) -> None:
        raise ValueError(f"unknown word {job.payload['secret']}")

    assert once(opens)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "arqonbus.work"]
    assert line.startswith("jobs:new #1, attempt 1 failed: ValueError\n")
    assert "in opens" in line
    assert "sesame" not in line
    assert job().errors[-1]["error"] == "ValueError: unknown word sesame"


def test_a_job_may_be_delayed_by_a_time_from_now_on() -> None:
    services.publish(NEW, {"n": 1}, deliver_at=timedelta(hours=1))
    assert timedelta(minutes=59) < job().due_at - timezone.now() <= timedelta(hours=1)
    assert not once(lambda job: None)


def test_a_renewal_that_fails_for_a_moment_is_tried_again_until_the_claim_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services.publish(NEW, {"n": 1})
    (claim,) = services.claim_jobs(NEW, actor=ROBOT).claims
    said = [ErrorCode.UNAVAILABLE, ErrorCode.CLAIM_LOST]
    asked: list[ErrorCode] = []
    lost = threading.Event()

    def renew(*_: Any, **__: Any) -> None:
        asked.append(said[len(asked)])
        if len(asked) == len(said):
            lost.set()
        raise BusError(asked[-1])

    monkeypatch.setattr(workers, "renew_claim", renew)
    with workers._renewed(msgspec.structs.replace(claim, lease=0.03), ROBOT):
        assert lost.wait(10)
    assert asked == said


@pytest.mark.parametrize("result", [object(), "x" * 200_000], ids=["no JSON", "too large"])
def test_a_result_that_can_never_be_sent_ends_the_job_and_leaves_nothing_of_its_function(result: Any) -> None:
    services.publish(NEW, {"n": 1})

    def unsendable(job: workers.Job) -> Any:
        Room.objects.create(name="half")
        return result

    assert once(unsendable)
    (failure,) = job().errors
    assert (job().state, failure["error"].startswith("The result was refused. ")) == ("dead", True)
    assert not Room.objects.filter(name="half").exists()


def test_a_rejected_job_is_dead() -> None:
    services.publish(NEW, {"n": 1})

    def rejects(job: workers.Job) -> None:
        raise Rejected("not a number")

    assert once(rejects)
    assert (job().state, job().errors[-1]["error"]) == ("dead", "not a number")
    assert not once(rejects)


def test_without_a_function_nothing_runs() -> None:
    with pytest.raises(CommandError, match="No app has a module"):
        call_command("runworkers", until_empty=True)
    work_on("jobs:new")(lambda job: None)
    with pytest.raises(CommandError, match="jobs:other"):
        call_command("runworkers", "jobs:other", until_empty=True)
    work_on("jobs:missing")(lambda job: None)
    with pytest.raises(CommandError, match=r"jobs:missing.*Make the work channel with .*create_channel"):
        call_command("runworkers", until_empty=True, stdout=io.StringIO())
