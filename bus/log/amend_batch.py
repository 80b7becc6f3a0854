"""The amendments of one batch of entries, in the batch's transaction.

The batch holds the locks of their channels. So of a delete and an edit at the same time one comes first, in every reader's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.models import Count, Q

from ..models import Amendment, AuditEntry, Message
from ..protocol.amending import DELETE, ERASED_END, REACT
from ..protocol.errors import BusError, ErrorCode
from .amend_effects import Amending
from .entry import Entry

#: Amendments of one message. A delete is always possible.
MOST = 10_000
#: Different reactions to one message.
MOST_REACTIONS = 100

#: A message: the id of its channel, and its seq.
Place = tuple[int, int]


class _Original:
    """A message that a batch amends."""

    __slots__ = ("count", "deleted", "reactions", "there")

    def __init__(self) -> None:
        self.there = False
        self.count = 0
        self.deleted = False
        self.reactions: set[str] = set()


class _New(NamedTuple):
    entry: Entry
    amending: Amending
    seq: int


class AmendBatch:
    """The amendments of a batch. ``amending`` are the entries with such an effect, each with it."""

    def __init__(self, amending: Sequence[tuple[Entry, Amending]]) -> None:
        for _, effect in amending:
            effect.reset()
        self._new: list[_New] = []
        self._originals: dict[Place, _Original] = {}
        wanted: dict[int, set[int]] = {}
        for entry, effect in amending:
            self._originals[entry.channel_id, effect.of_seq] = _Original()
            wanted.setdefault(entry.channel_id, set()).add(effect.of_seq)
        self._read(wanted, react=any(effect.do == REACT for _, effect in amending))

    def _read(self, wanted: dict[int, set[int]], *, react: bool) -> None:
        there, amended = Q(pk__in=[]), Q(pk__in=[])
        for channel_id, seqs in wanted.items():
            there |= Q(channel_id=channel_id, seq__in=seqs)
            amended |= Q(channel_id=channel_id, of_seq__in=seqs)
        kept = Message.objects.filter(there).exclude(frame__endswith=ERASED_END.decode()).order_by()
        for place in kept.values_list("channel_id", "seq"):
            self._originals[place].there = True
        rows = Amendment.objects.filter(amended).order_by()
        counts = rows.values_list("channel_id", "of_seq").annotate(
            n=Count("id"), deletes=Count("id", filter=Q(do=DELETE))
        )
        for channel_id, of_seq, count, deletes in counts:
            original = self._originals[channel_id, of_seq]
            original.count, original.deleted = count, bool(deletes)
        if react:
            reactions = rows.filter(do=REACT).values_list("channel_id", "of_seq", "reaction").distinct()
            for channel_id, of_seq, reaction in reactions:
                self._originals[channel_id, of_seq].reactions.add(reaction)

    # --- one entry after another --------------------------------------------------------------------------------------

    def admits(self, entry: Entry, effect: Amending) -> bool:
        """Decide whether the message of an entry goes into the log. An entry that is refused gets its ``error``."""
        effect.settled = True
        entry.error = self._refusal(self._originals[entry.channel_id, effect.of_seq], effect)
        return entry.error is None

    def _refusal(self, original: _Original, effect: Amending) -> BusError | None:
        if not original.there or original.deleted:
            return message_not_found(effect.message_uid)
        if original.count >= MOST and effect.do != DELETE:
            return _limit("amendments", MOST, f"This message has {MOST} amendments, which is the limit.")
        if effect.do == REACT and len(original.reactions | {effect.reaction}) > MOST_REACTIONS:
            text = f"This message has {MOST_REACTIONS} different reactions, which is the limit."
            return _limit("reactions", MOST_REACTIONS, text)
        return None

    def keep(self, entry: Entry, effect: Amending, seq: int) -> None:
        """Do what an admitted entry does besides its message, which gets ``seq``."""
        original = self._originals[entry.channel_id, effect.of_seq]
        original.count += 1
        if effect.do == DELETE:
            original.deleted = True
        elif effect.do == REACT:
            original.reactions.add(effect.reaction)
        self._new.append(_New(entry, effect, seq))

    def write(self, moment: Any) -> None:
        """Write what the entries changed. ``moment`` is not needed: the messages have the times."""
        Amendment.objects.bulk_create(
            [
                Amendment(
                    channel_id=entry.channel_id,
                    seq=seq,
                    of_seq=effect.of_seq,
                    do=effect.do,
                    reaction=effect.reaction,
                    client_id=effect.client_id,
                    principal=effect.principal,
                )
                for entry, effect, seq in self._new
            ]
        )
        audited = [effect.audit for _, effect, _ in self._new if effect.audit is not None]
        if audited:
            AuditEntry.objects.bulk_create([AuditEntry(**fields) for fields in audited])


def message_not_found(of: str) -> BusError:
    """Return the error for an unknown message, and for one that was deleted or erased."""
    return BusError(ErrorCode.MESSAGE_NOT_FOUND, details=[{"of": of}])


def _limit(name: str, value: int, text: str) -> BusError:
    return BusError(ErrorCode.LIMIT_REACHED, text, [{"limit": name, "value": value}])
