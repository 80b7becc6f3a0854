"""P27: a steer is taken by the owner, or left in the end's list, or came too late: one of the three, always."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, new_id
from tests.harness.growing import Watch
from tests.harness.server import BusServer
from tests.reliability.growing import assert_nothing_is_open, ends_kept
from tests.reliability.traffic import query

STREAMS, STEERS = 50, 10
OWNERS, STEERERS = 5, 5


@dataclass
class Answer:
    """One stream and what became of its steers."""

    of: str
    taken: set[str] = field(default_factory=set)
    steered: dict[str, bool] = field(default_factory=dict)
    """What the ack of each steer said."""


async def own(
    client: WireClient, watch: Watch, answer: Answer, parts: int, rng: random.Random, steerer: WireClient
) -> None:
    """Say some parts, take what was steered now and then, and end.

    ``steerer`` steers once more before the last part, which takes nothing, and once behind the end.
    """
    of = answer.of
    await client.publish(ack=True, message_id=of, room="lab", channel="talk", stream={"mode": "text"})
    for n in range(1, parts + 1):
        took = [steer["id"] for steer in watch.steers.get(of, []) if steer["id"] not in answer.taken]
        if n == parts:
            await steer(steerer, answer)
        if took and n < parts and rng.random() < 0.5:
            answer.taken.update(took)
        else:
            took = []
        last: dict[str, Any] = {"end": "complete", "ack": True} if n == parts else {"ack": rng.random() < 0.3}
        await client.publish(type="append", of=of, n=n, delta=f"{n} ", took=took or None, timeout=60, **last)
        await asyncio.sleep(rng.random() * 0.02)
    await steer(steerer, answer)


async def steer(client: WireClient, answer: Answer, delay: float = 0.0) -> None:
    """Say something to the owner after some seconds."""
    await asyncio.sleep(delay)
    uid = new_id()
    ack = await client.publish("hm", ack=True, message_id=uid, room="lab", channel="talk", steer=answer.of, timeout=60)
    answer.steered[uid] = ack["steered"]


async def test_every_steer_around_the_end_is_taken_or_left_or_late(
    start_server: StartServer, storage: Storage, wire: Connect
) -> None:
    rng = random.Random(500)
    count = 1 if storage.redis is None else 2
    servers: list[BusServer] = list(await asyncio.gather(*(asyncio.to_thread(start_server) for _ in range(count))))
    owners: list[tuple[WireClient, Watch]] = []
    for number in range(OWNERS):
        watch = Watch(f"owner-{number}")
        owners.append(
            (await wire(servers[number % count], client_id=watch.name, room="lab:door", recorder=watch), watch)
        )
    steerers = [
        await wire(servers[(number + 1) % count], client_id=f"steerer-{number}", room="lab:door")
        for number in range(STEERERS)
    ]
    answers = [Answer(new_id()) for _ in range(STREAMS)]

    async def one(number: int, answer: Answer) -> None:
        client, watch = owners[number % OWNERS]
        speaking = own(client, watch, answer, 10 + rng.randrange(20), rng, steerers[number % STEERERS])
        # Around the end, and the two of the owner's.
        around = (steer(steerers[n % STEERERS], answer, rng.random() * 0.4) for n in range(STEERS - 2))
        await asyncio.gather(*around, speaking)

    # The opening goes first, for a steer of an unknown stream is refused.
    for number, answer in enumerate(answers):
        client, _ = owners[number % OWNERS]
        await client.publish(ack=True, message_id=answer.of, room="lab", channel="talk", stream={"mode": "text"})
    await asyncio.gather(*(one(number, answer) for number, answer in enumerate(answers)))

    assert [refused for _, watch in owners for refused in watch.refusals] == []
    kept = ends_kept(storage)
    fates = {"taken": 0, "untaken": 0, "late": 0}
    for answer in answers:
        (end,) = kept[answer.of]
        untaken = set(end["untaken"])
        late = {uid for uid, steered in answer.steered.items() if not steered}
        assert len(end["untaken"]) == len(untaken)
        assert len(answer.steered) == STEERS
        assert answer.taken | untaken | late == set(answer.steered), answer
        assert len(answer.taken) + len(untaken) + len(late) == STEERS, answer
        for fate, uids in (("taken", answer.taken), ("untaken", untaken), ("late", late)):
            fates[fate] += len(uids)
    assert fates["untaken"] >= STREAMS, fates
    assert fates["late"] >= STREAMS, fates
    assert fates["taken"] > 0, fates
    # Each of them is a message as any other.
    uids = {row[0] for row in query(storage, "SELECT uid FROM bus_message")}
    assert {uid for answer in answers for uid in answer.steered} <= uids
    assert_nothing_is_open(storage)
