"""Count the references of the extension's functions: a program for any Python, best one with debug counts.

It imports nothing but the extension, because a debug Python has no other packages: ``python3-dbg -m tests.speed.references``.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from bus._speed import core
from tests.speed.corpus import LEFT, TAKEN

TURNS = 500


class Plain:
    """Stands for Inbound, and can refuse its arguments."""

    refuses = False

    def __init__(self, *given: Any) -> None:
        if self.refuses:
            raise ValueError(given[0])


def counted() -> int:
    """All references, where this Python counts them; else all blocks of memory."""
    gc.collect()
    return int(getattr(sys, "gettotalrefcount", sys.getallocatedblocks)())


def grown(call: Callable[[], object]) -> int:
    """By how much the count grows over many calls, after some that fill caches."""
    for _ in range(100):
        call()
    before = counted()
    for _ in range(TURNS):
        call()
    return counted() - before


def leaks() -> list[str]:
    """The calls that keep something."""
    assert core is not None
    bucket = core.TokenBucket(1.0, 2.0, 0.0)
    calls: dict[str, Callable[[], object]] = {
        f"usual {data[:80]!r}": partial(core.usual, data) for data in TAKEN + LEFT
    }
    calls |= {
        "usual of no bytes": lambda: core.usual("{}"),
        "configure_usual": lambda: core.configure_usual(Plain, "publish", id),
        "configure_usual, wrongly": lambda: refused(lambda: core.configure_usual(5, 5, 5)),
        "a bucket": lambda: core.TokenBucket(1.0, 2.0, 3.0),
        "a bucket of a text": lambda: refused(lambda: core.TokenBucket("x", 2.0, 3.0)),
        "take and owe": lambda: (bucket.take(1.0, 5.0), bucket.owe(1.0), bucket.level, bucket.rate),
        "take a text": lambda: refused(lambda: bucket.take("x", None)),
    }
    found: list[str] = []
    for refuses in (False, True):
        Plain.refuses = refuses
        core.configure_usual(Plain, "publish", lambda data: None)
        for name, call in calls.items():
            kept = grown(partial(refused, call))
            # One reference a call is a leak; some few come from the interpreter itself.
            if kept > TURNS // 4:
                found.append(f"{name} keeps {kept} in {TURNS} calls")
    return found


def refused(call: Callable[[], object]) -> None:
    """Call, and forget an exception."""
    try:
        call()
    except (TypeError, ValueError):
        pass


if __name__ == "__main__":
    found = leaks()
    print("counts references" if hasattr(sys, "gettotalrefcount") else "counts blocks", *found, sep="\n")
    sys.exit(bool(found))
