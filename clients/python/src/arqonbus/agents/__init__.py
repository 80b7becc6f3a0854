"""The events of agent frameworks as the text or the parts of a streamed message.

``out.pipe(events)`` calls `pieces`. It takes the events of these frameworks, besides plain strings and dicts::

    AGUIAdapter(agent, run_input).run_stream()                    Pydantic AI, as AG-UI events
    VercelAIAdapter(agent, run_input).run_stream()                Pydantic AI, as events of the Vercel AI SDK
    graph.astream(state, stream_mode="messages")                  LangGraph, also with "updates" and "values"
    Runner.run_streamed(agent, question).stream_events()          OpenAI Agents

No framework is imported. `frameworks` recognises an event by its type. In mode ``text`` a stream gets the text of the answer. In
mode ``parts`` it gets AG-UI events, or the events of the Vercel AI SDK if the run is made of them.
"""

from __future__ import annotations

from .failures import RunFailed
from .piping import Piece, pieces, pieces_sync

__all__ = ["Piece", "RunFailed", "pieces", "pieces_sync"]
