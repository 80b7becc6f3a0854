"""Pages of a list in which some rows are hidden. One question checks a bounded number of rows.

A page may have fewer rows than requested, or none, and still have a next page. If a page ended at a hidden row, its
cursor is sealed: the next page continues there, and the client cannot read the name.
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

#: Rows of one step. A page takes two steps; the first one has as many rows as the page if that is more.
STEP = 200
#: The first character of a sealed cursor. No name begins with it.
SEALED = "~"

Row = TypeVar("Row", bound=Model)
Shown = TypeVar("Shown")

#: A position in a list: the values of the fields that order it.
Key = tuple[str, ...]


def walk(
    rows: QuerySet[Row],
    fields: Sequence[str],
    after: Key | None,
    limit: int,
    show: Callable[[list[Row]], Sequence[Shown | None]],
) -> tuple[list[Shown], Key | None, bool]:
    """Return up to ``limit`` of the rows behind ``after``, ordered by ``fields``, in the form that ``show`` gives them.

    ``show`` gets a list of rows and returns the form of each, with None for a hidden row. It may return fewer, for the
    first rows. The result has the rows, the position of the next page (None: this was the last), and whether the row
    there was shown.
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
    """Return a filter for rows behind a position in the order of the fields."""
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
    """Return a sealed cursor for a position whose name the client may not see."""
    cipher = _cipher(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return SEALED + cipher.encrypt(text.encode()).decode().rstrip("=")


def unsealed(text: str) -> str | None:
    """Return the text of a cursor: the cursor itself, or the text that :func:`sealed` got.

    Returns None for a sealed cursor that this site did not make.
    """
    if not text.startswith(SEALED):
        return text
    token = text[1:] + "=" * (-len(text[1:]) % 4)
    try:
        return _cipher(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS).decrypt(token.encode()).decode()
    except (InvalidToken, ValueError):
        return None
