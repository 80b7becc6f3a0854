"""The statements for jobs: what they cost the database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bus import services
from bus.directory.channels import ref_of
from bus.log.jobs import CLAIMED, DISCARDED, DONE, KEPT
from bus.models import Channel, Job, Node, Room
from bus.protocol.names import Address
from bus.services import work
from bus.services.work import Claim, Worker

pytestmark = pytest.mark.django_db(transaction=True)

JOBS = Address("jobs", "new")
DELAYED = 2_000


def rows_read() -> int:
    """How many rows of jobs this transaction has read so far, as PostgreSQL counts them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'bus_job'")
        return int(cursor.fetchone()[0])


@pytest.mark.cluster
def test_delayed_jobs_cost_a_claim_nothing() -> None:
    rule = {"lease": 30.0, "attempts": 2, "hold": 3600.0, "dead": None}
    channel = Channel.objects.create(room=Room.objects.create(name=JOBS.room), name=JOBS.channel, work=rule)
    later = timezone.now() + timedelta(days=1)
    Job.objects.bulk_create(
        Job(channel=channel, seq=10_000 + n, uid=f"later-{n}", due_at=later) for n in range(DELAYED)
    )
    for _ in range(3):
        services.publish(JOBS, {"n": 1})
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE bus_job")
    with transaction.atomic():
        (answer,) = work.apply([Claim(ref_of(channel), 1, Worker("ada", "user:1"))]).answers
        assert (len(answer.claims), answer.ready) == (1, 2)
        claimed = rows_read()
        assert work.ready_now([channel.pk]) == {channel.pk: 2}
        looked = rows_read() - claimed
    assert (claimed < 20, looked < 20) == (True, True), (claimed, looked)


@pytest.mark.embedded
def test_sqlite_finds_the_ended_jobs_by_their_index() -> None:
    # The only partial index on several states: SQLite proves nothing of a list of parameters.
    old = Job.objects.filter(state__in=(DONE, DISCARDED), ended_at__lt=timezone.now()).order_by("ended_at")
    assert "bus_job_ended" in old.explain()


@pytest.mark.embedded
@pytest.mark.parametrize("state", KEPT)
def test_sqlite_reads_no_ended_job_to_find_those_that_a_channel_keeps(state: str) -> None:
    assert f"bus_job_{state}" in Job.objects.filter(channel_id__in=[1], state=state).explain()


@pytest.mark.embedded
def test_sqlite_reads_no_ended_job_to_sweep() -> None:
    rule = {"lease": 30.0, "attempts": 2, "hold": 3600.0, "dead": None}
    channel = Channel.objects.create(room=Room.objects.create(name=JOBS.room), name=JOBS.channel, work=rule)
    over = timezone.now() - timedelta(hours=1)
    Node.objects.create(id="n1", host="h", pid=1, version="1", started_at=over)
    for seq, rest in ((1, True), (2, False)):
        Job.objects.create(channel=channel, seq=seq, uid=f"job-{seq}", state=CLAIMED, rest=rest, hold_until=over)
    with CaptureQueriesContext(connection) as seen:
        assert len(work.sweep().changes) == 2
    reads = [query["sql"] for query in seen if query["sql"].startswith("SELECT") and 'FROM "bus_job"' in query["sql"]]
    with connection.cursor() as cursor:
        plans = [cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in reads]
    assert len(plans) > 4
    assert [step[3] for plan in plans for step in plan if step[3] == "SCAN bus_job"] == []
