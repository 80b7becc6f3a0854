"""Folded history: each message of a page with everything that amended it, also after the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from django.db.models import Count, Max, Q
from django.db.models.functions import Length

from ..log.pages import Found
from ..models import Amendment, Message
from ..protocol.amending import DELETE, EDIT, REACT, UNREACT, Change, change_of, folded, is_erased
from ..protocol.kept import legible

#: What the frame of an amendment has, and few others.
MARK = b'"type":"amend"'
#: About the bytes that a reaction takes in a folded message.
REACTION = 80

#: A message: the id of its channel, and its seq.
Place = tuple[int, int]


class _Amended(msgspec.Struct):
    """What amended a message: the seq of the newest edit and of the delete (0: none), and how many reactions came or went."""

    edit: int = 0
    delete: int = 0
    reactions: int = 0


class Amendments:
    """The amendments of the messages of a page of history.

    With ``searching``, the page was searched for a text. An amendment that has it stands for its message.
    """

    def __init__(self, found: Sequence[Found], *, searching: bool) -> None:
        here = [_place(message) for message in found]
        marked = [place for place, message in zip(here, found, strict=True) if MARK in message.frame]
        # By the place of an amendment in the page: the place of its message.
        self._of = _originals_of(marked) if marked else {}
        # What an erased amendment did may be unknown. It still has no place in a folded page.
        self._gone = {
            place
            for place, message in zip(here, found, strict=True)
            if MARK in message.frame and is_erased(message.frame) and change_of(message.frame) is not None
        }
        wanted = [place for place in here if place not in self._of]
        self._instead: dict[Place, Found] = {}
        if searching and self._of:
            self._instead = _read(set(self._of.values()).difference(here))
            wanted += self._instead
        self._amended = _amended(wanted) if wanted else {}
        self._sizes = _sizes(self._amended.items()) if self._amended else {}

    def size(self, message: Found) -> int:
        """Return about how many bytes a message of the page takes more once it is folded; less than 0 for an amendment."""
        place = _place(message)
        original = self._of.get(place)
        if original is None:
            return self._sizes.get(place, 0)
        more = self._sizes.get(original, 0) + len(self._instead[original].frame) if original in self._instead else 0
        return more - len(message.frame)

    def folded(self, page: Iterable[Found]) -> list[Found]:
        """Return the messages of the page, each with its amendments. Those have no place of their own.

        An amendment of a page that was searched stands for its message, unless the page has that one.
        """
        left: list[Found] = []
        instead = dict(self._instead)
        for message in page:
            place = _place(message)
            original = self._of.get(place)
            if original is None:
                if place not in self._gone:
                    left.append(message)
            elif original in instead:
                left.append(instead.pop(original))
        changes = _changes({_place(message) for message in left} & self._amended.keys(), self._amended)
        return [
            msgspec.structs.replace(message, frame=folded(message.frame, changes[place]))
            if (place := _place(message)) in changes
            else message
            for message in left
        ]


def _place(message: Found) -> Place:
    return message.channel_id, message.seq


def _at(places: Iterable[Place], field: str) -> Q:
    """Return the condition for rows at these places. ``field`` has the seq."""
    seqs: dict[int, list[int]] = {}
    for channel_id, seq in places:
        seqs.setdefault(channel_id, []).append(seq)
    found = Q(pk__in=[])
    for channel_id, some in seqs.items():
        found |= Q(**{"channel_id": channel_id, f"{field}__in": some})
    return found


def _originals_of(places: Iterable[Place]) -> dict[Place, Place]:
    rows = Amendment.objects.filter(_at(places, "seq")).order_by().values_list("channel_id", "seq", "of_seq")
    return {(channel_id, seq): (channel_id, of_seq) for channel_id, seq, of_seq in rows}


def _read(places: Iterable[Place]) -> dict[Place, Found]:
    rows = Message.objects.filter(_at(places, "seq")).order_by()
    fields = ("created_at", "id", "channel_id", "seq", "frame")
    return {
        (channel_id, seq): Found(at, key, channel_id, seq, legible(frame.encode(), seq))
        for at, key, channel_id, seq, frame in rows.values_list(*fields)
    }


def _amended(places: Iterable[Place]) -> dict[Place, _Amended]:
    rows = Amendment.objects.filter(_at(places, "of_seq")).order_by().values_list("channel_id", "of_seq", "do")
    found: dict[Place, _Amended] = {}
    for channel_id, of_seq, do, count, newest in rows.annotate(n=Count("id"), newest=Max("seq")):
        amended = found.setdefault((channel_id, of_seq), _Amended())
        if do == EDIT:
            amended.edit = newest
        elif do == DELETE:
            amended.delete = newest
        else:
            amended.reactions += count
    return found


def _sizes(amended: Iterable[tuple[Place, _Amended]]) -> dict[Place, int]:
    """Return about how many bytes the amendments of each message take in it."""
    sizes: dict[Place, int] = {}
    edits: dict[Place, Place] = {}
    for place, found in amended:
        sizes[place] = 0 if found.delete else found.reactions * REACTION
        if found.edit and not found.delete:
            edits[place[0], found.edit] = place
    if edits:
        rows = Message.objects.filter(_at(edits, "seq")).order_by().annotate(size=Length("frame"))
        for channel_id, seq, size in rows.values_list("channel_id", "seq", "size"):
            sizes[edits[channel_id, seq]] += size
    return sizes


def _changes(places: Iterable[Place], amended: dict[Place, _Amended]) -> dict[Place, list[Change]]:
    """Return what folds into the messages at these places. A deleted one needs its delete alone."""
    changes: dict[Place, list[Change]] = {place: [] for place in places}
    whole: dict[Place, Place] = {}
    reacted: list[Place] = []
    for place in changes:
        found = amended[place]
        if newest := found.delete or found.edit:
            whole[place[0], newest] = place
        if found.reactions and not found.delete:
            reacted.append(place)
    for at, message in (_read(whole) if whole else {}).items():
        if (change := change_of(message.frame)) is not None:
            changes[whole[at]].append(change)
    if reacted:
        rows = Amendment.objects.filter(_at(reacted, "of_seq"), do__in=(REACT, UNREACT)).order_by()
        fields = ("channel_id", "of_seq", "seq", "do", "client_id", "reaction")
        for channel_id, of_seq, seq, do, by, reaction in rows.values_list(*fields):
            changes[channel_id, of_seq].append(Change(seq, do, by, reaction=reaction))
    return changes
