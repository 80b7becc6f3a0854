"""Tracebacks of the project's own code, without the texts of its exceptions."""

from __future__ import annotations

from itertools import pairwise


def without_text(problem: BaseException) -> BaseException:
    """Return an exception for ``exc_info`` of a log line: the types and places of ``problem``, and nothing of its texts.

    The text of an exception may quote a message, as ``int("…")`` does. The causes of ``problem`` come along.
    """
    seen: dict[int, BaseException] = {}
    chain: BaseException | None = problem
    while chain is not None and id(chain) not in seen:
        kind = type(chain)
        named = type(kind.__name__, (Exception,), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})
        seen[id(chain)] = named().with_traceback(chain.__traceback__)
        chain = chain.__cause__ if chain.__cause__ is not None or chain.__suppress_context__ else chain.__context__
    made = list(seen.values())
    for later, earlier in pairwise(made):
        later.__cause__ = earlier
    return made[0]
