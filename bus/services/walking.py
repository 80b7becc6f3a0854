"""Pages of what somebody may see, out of rows that they may not all see: one question looks at a bounded number of rows.

A page may hold fewer rows than asked for, or none, and still have a next one. Where it ended at a row that the asker may not know
of, its cursor is sealed: it goes on from there, and tells nobody the name.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db.models import Model, Q, QuerySet

#: Rows that are looked at in one step; a page takes two, the first one as long as the page if that is more.
STEP = 200
#: What a sealed cursor begins with; no name does.
SEALED = "~"

Row = TypeVar("Row", bound=Model)
Shown = TypeVar("Shown")

#: A place in a list: the values of the fields that it is in the order of.
Key = tuple[str, ...]


def walk(
    rows: QuerySet[Row],
    fields: Sequence[str],
    after: Key | None,
    limit: int,
    show: Callable[[list[Row]], Sequence[Shown | None]],
) -> tuple[list[Shown], Key | None, bool]:
    """Up to ``limit`` of the rows, in the order of ``fields`` and from behind ``after``, as ``show`` gives them.

    ``show`` answers for the first rows that it is given, all or as many as it likes, with None for what is hidden. Returns them
    with the place that the next page begins behind (None: this was the last), and whether the row there was shown.
    """
    seen: list[tuple[Key, Shown]] = []
    place, open_ = after, True
    for step in (max(limit + 1, STEP), STEP):
        batch = list((rows if place is None else rows.filter(_behind(fields, place))).order_by(*fields)[:step])
        answers = show(batch) if batch else []
        for row, answer in zip(batch, answers, strict=False):
            place, open_ = _key(row, fields), answer is not None
            if answer is not None:
                seen.append((place, answer))
        if len(seen) > limit:
            return [answer for _, answer in seen[:limit]], seen[limit - 1][0], True
        if len(answers) == len(batch) < step:
            place = None
            break
        if len(answers) < len(batch):
            break
    return [answer for _, answer in seen], place, open_


def _key(row: Model, fields: Sequence[str]) -> Key:
    values = []
    for field in fields:
        value: Any = row
        for name in field.split("__"):
            value = getattr(value, name)
        values.append(str(value))
    return tuple(values)


def _behind(fields: Sequence[str], place: Key) -> Q:
    """Rows that come after a place in the order of the fields."""
    found = Q()
    same: dict[str, str] = {}
    for field, value in zip(fields, place, strict=True):
        found |= Q(**same, **{f"{field}__gt": value})
        same[field] = value
    return found


@lru_cache(maxsize=4)
def _cipher(*secrets: str) -> MultiFernet:
    keys = [base64.urlsafe_b64encode(sha256(b"arqonbus.cursor:" + secret.encode()).digest()) for secret in secrets]
    return MultiFernet([Fernet(key) for key in keys])


def sealed(text: str) -> str:
    """A cursor for a place whose name its bearer may not know."""
    cipher = _cipher(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return SEALED + cipher.encrypt(text.encode()).decode().rstrip("=")


def unsealed(text: str) -> str | None:
    """What a cursor stands for: itself, or what :func:`sealed` was given; None for one that we did not make."""
    if not text.startswith(SEALED):
        return text
    token = text[1:] + "=" * (-len(text[1:]) % 4)
    try:
        return _cipher(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS).decrypt(token.encode()).decode()
    except (InvalidToken, ValueError):
        return None
