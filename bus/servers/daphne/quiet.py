"""Autobahn's debug texts, made only when somebody reads them.

Autobahn formats the whole table of its options for each connection, and coloured names for each read, as arguments of debug
lines that nobody sees; that was a tenth of the cost of a connection. The functions it calls for that are replaced by ones that
remember their arguments and do the same when the text is asked for. Internals used, and nothing else of them: the names
``pformat``, ``hltype`` and ``hlval`` in ``autobahn.websocket.protocol`` and ``autobahn.twisted.websocket``, and
``Timings.__str__``, which needs its text at once.
"""

from __future__ import annotations

import functools
import pprint
import sys
from collections.abc import Callable
from typing import Any


class Later:
    """A text that is made when it is looked at."""

    __slots__ = ("_arguments", "_make", "_options")

    def __init__(self, make: Callable[..., str], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._make = make
        self._arguments = arguments
        self._options = options

    def __str__(self) -> str:
        return self._make(*self._arguments, **self._options)

    __repr__ = __str__

    def __format__(self, form: str) -> str:
        return format(str(self), form)


def _later(make: Callable[..., str]) -> Callable[..., Any]:
    def remembered(*arguments: Any, **options: Any) -> Later:
        return Later(make, arguments, options)

    return remembered


@functools.cache
def quieten() -> bool:
    """Replace the functions in this process, once; whether Autobahn is as expected.

    To be called when a server has Autobahn loaded already: the order in which Twisted's parts are imported matters to it.
    """
    twisted: Any = sys.modules.get("autobahn.twisted.websocket")
    protocol: Any = sys.modules.get("autobahn.websocket.protocol")
    if getattr(protocol, "pformat", None) is not pprint.pformat or not hasattr(protocol, "Timings"):
        return False
    protocol.Timings.__str__ = lambda self: pprint.pformat(self._timings)
    protocol.pformat = _later(pprint.pformat)
    for module in (twisted, protocol):
        for name in ("hltype", "hlval"):
            if hasattr(module, name):
                setattr(module, name, _later(getattr(module, name)))
    return True
