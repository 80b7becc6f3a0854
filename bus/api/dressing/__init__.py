"""Dresses the frames of a streamed message as events of other protocols: AG-UI, and Vercel's UI message stream.

It is pure: frames go in, events come out. A part may come twice, a snapshot may skip parts, and the stream may begin anew
(``adopt_stream`` with ``keep`` false). The reader gets each part of the content once and in order. The ids of the events are
positions. With one of them in ``Last-Event-ID``, the reader gets what it does not have yet, whatever the borders of the parts
were.
"""

from __future__ import annotations

from collections.abc import Mapping

from .agui import AgUi
from .content import Dressing, Event, Position, Run, position_of
from .vercel import Vercel
from .wire import Parts

__all__ = ["FORMS", "Dressing", "Event", "Position", "Run", "position_of"]

#: The forms of ``?as=``.
FORMS: Mapping[str, type[Dressing]] = {"parts": Parts, "agui": AgUi, "vercel": Vercel}
