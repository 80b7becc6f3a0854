"""The judgement of a record: which of the promises 1 to 7 of `recorder` were broken."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from tests.harness.record import SERVER, Delivery, Record, Row, Stretch, Violation


def check(
    record: Record,
    history: Mapping[str, Sequence[Row]],
    *,
    ignore: Collection[str] = (),
    pruned: Collection[str] = (),
    complete: bool = True,
) -> list[Violation]:
    """Every broken promise of 1 to 7.

    `history` holds the rows of each log in `record.addresses()` except those in `ignore`, oldest first;
    those of `pruned` may lack the oldest rows. With `complete`, members that are still there must have
    everything up to the head. Raises ValueError for a log whose history is missing: nothing is judged by
    not looking.
    """
    missing = record.addresses() - set(history) - set(ignore)
    if missing:
        raise ValueError(f"no history given for {', '.join(sorted(missing))}")
    judged = {address: list(rows) for address, rows in history.items() if address not in ignore}
    return [
        *record.immediate,
        *_check_history(record, judged, pruned),
        *_check_publications(record, judged),
        *_check_ephemeral(record),
        *(
            violation
            for stretch in record.stretches
            if stretch.address in judged
            for violation in _check_stretch(record, stretch, judged[stretch.address], complete)
        ),
        *_check_clients(record, set(ignore)),
    ]


def _check_history(
    record: Record, history: Mapping[str, Sequence[Row]], pruned: Collection[str]
) -> Iterable[Violation]:
    """5: one order without hole or double. 2: nothing from nowhere. 6: nothing refused, nothing twice."""
    for address, rows in history.items():
        if rows and rows[0].seq != 1 and address not in pruned:
            yield Violation(5, f"history of {address} begins with seq {rows[0].seq}")
        for before, after in itertools.pairwise(rows):
            if after.seq != before.seq + 1:
                yield Violation(5, f"history of {address} goes from seq {before.seq} to {after.seq}")
        for message_id, count in Counter(row.message_id for row in rows).items():
            if count > 1:
                yield Violation(6, f"{message_id} is {count} times in the history of {address}")
        for row in rows:
            publication = record.published(row.message_id, address)
            if publication is None:
                if row.sender != SERVER:
                    yield Violation(2, f"history of {address} has {row.message_id}, which nobody published")
            elif publication.outcome == "error":
                yield Violation(6, f"{row.message_id} was refused, but is in the history of {address}")
            elif row.sender != publication.sender:
                yield Violation(2, f"{row.message_id} of {publication.sender} is kept as one of {row.sender}")
    places: dict[str, set[str]] = defaultdict(set)
    for address, rows in history.items():
        for row in rows:
            places[row.message_id].add(address)
    for message_id, addresses in places.items():
        publication = record.publications.get(message_id)
        if len(addresses) > 1 and not (publication and publication.targets):
            yield Violation(6, f"{message_id} is in several logs: {', '.join(sorted(addresses))}")


def _check_publications(record: Record, history: Mapping[str, Sequence[Row]]) -> Iterable[Violation]:
    """1: what was acknowledged is there, at the acknowledged seq, which is the same each time."""
    by_seq = {address: {row.seq: row for row in rows} for address, rows in history.items()}
    for publication in record.publications.values():
        acknowledged: set[tuple[str, int]] = set()
        for attempt in publication.all_attempts():
            if attempt.outcome == "ok" and attempt.address is not None and attempt.seq is not None:
                acknowledged.add((attempt.address, attempt.seq))
        if len(acknowledged) > 1 and len(publication.targets) < 2:
            yield Violation(1, f"{publication.message_id} was acknowledged at {sorted(acknowledged)}")
        for address, seq in acknowledged:
            rows = by_seq.get(address)
            if rows is None or (rows and seq < min(rows)):
                continue  # ignored, or pruned since
            row = rows.get(seq)
            if row is None:
                yield Violation(
                    1,
                    f"{publication.message_id}, acknowledged at {address} seq {seq}, is not in the history",
                )
            elif row.message_id != publication.message_id:
                yield Violation(
                    1,
                    f"{publication.message_id} was acknowledged at {address} seq {seq}, "
                    f"where the history has {row.message_id}",
                )


def _check_ephemeral(record: Record) -> Iterable[Violation]:
    """Messages without a seq: published, not refused, once per connection."""
    counts: Counter[tuple[int, str]] = Counter()
    for link, client, delivery in record.ephemeral:
        yield from _check_origin(record, client, delivery)
        counts[link, delivery.message_id] += 1
    for (_, message_id), count in counts.items():
        if count > 1:
            yield Violation(3, f"{message_id} came {count} times over one connection")


def _check_origin(record: Record, client: str, delivery: Delivery) -> Iterable[Violation]:
    """2, 6 and 7 of one delivery."""
    publication = record.published(delivery.message_id, delivery.address)
    where = f"{client} received {delivery.message_id} ({delivery.address} seq {delivery.seq})"
    if publication is None:
        if delivery.sender != SERVER:
            yield Violation(2, f"{where}, which nobody published")
        return
    if publication.outcome == "error":
        yield Violation(6, f"{where}, whose publish was refused")
    if delivery.sender != publication.sender:
        yield Violation(2, f"{where} as one of {delivery.sender}, but {publication.sender} published it")
    if delivery.body != publication.body:
        yield Violation(2, f"{where} with other content than was published")
    if publication.targets and client not in (*publication.targets, publication.sender):
        yield Violation(7, f"{where}, which is private to {', '.join(publication.targets)}")


def _check_stretch(record: Record, stretch: Stretch, rows: Sequence[Row], complete: bool) -> Iterable[Violation]:
    """2, 3, 4 and 7 of one membership."""
    who = f"{stretch.client} (connection {stretch.link}) in {stretch.address}"
    by_seq = {row.seq: row for row in rows}
    first_kept = rows[0].seq if rows else None
    seen: set[int] = set()
    last = stretch.start if stretch.start is not None else -1
    if stretch.address.startswith("pm:") and stretch.address != f"pm:{stretch.client}":
        senders = {delivery.sender for delivery in stretch.deliveries}
        if senders - {stretch.client}:
            yield Violation(7, f"{who}: received from an inbox that is not its own")
    for delivery in stretch.deliveries:
        yield from _check_origin(record, stretch.client, delivery)
        assert delivery.seq is not None
        if delivery.seq <= last:
            what = "again" if delivery.seq in seen or stretch.start == last else "out of order"
            yield Violation(3, f"{who}: seq {delivery.seq} came {what} after {last}")
        last = max(last, delivery.seq)
        seen.add(delivery.seq)
        row = by_seq.get(delivery.seq)
        if row is None:
            if first_kept is None or delivery.seq >= first_kept:
                yield Violation(2, f"{who}: seq {delivery.seq} was delivered, but is not in the history")
        elif row.message_id != delivery.message_id:
            yield Violation(
                5,
                f"{who}: seq {delivery.seq} was delivered as {delivery.message_id}, the history has {row.message_id}",
            )
    due_after = stretch.start if stretch.start is not None else min(seen, default=0) - 1
    due_until = max(seen, default=due_after)
    if complete and stretch.open and rows and (stretch.start is not None or seen):
        due_until = max(due_until, rows[-1].seq)
    lost = [
        row.seq
        for row in rows
        if due_after < row.seq <= due_until and row.seq not in seen and row.sender != stretch.client
    ]
    if lost:
        shown = ", ".join(map(str, lost[:10])) + (f" … {len(lost)} in all" if len(lost) > 10 else "")
        yield Violation(4, f"{who}: never received seq {shown} of ({due_after}, {due_until}]")


def _check_clients(record: Record, ignore: set[str]) -> Iterable[Violation]:
    """3, over all connections of a client: a message has one place. And a log keeps its epoch."""
    places: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for stretch in record.stretches:
        for delivery in stretch.deliveries:
            if delivery.seq is not None and stretch.address not in ignore:
                places[stretch.client, stretch.address, delivery.message_id].add(delivery.seq)
    for (client, address, message_id), seqs in places.items():
        if len(seqs) > 1:
            yield Violation(3, f"{client} received {message_id} in {address} at seqs {sorted(seqs)}")
    for address, epochs in record.epochs.items():
        if len(epochs) > 1 and address not in ignore:
            yield Violation(5, f"{address} had {len(epochs)} epochs: {', '.join(sorted(epochs))}")
