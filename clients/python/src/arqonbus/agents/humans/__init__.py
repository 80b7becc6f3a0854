"""What agent frameworks stop for, decided by people.

A run of an agent stops where a person has to decide. Each function asks for what its framework waits for, waits for all
answers, and returns them as the framework takes them::

    results = await for_pydantic_ai(bus, "desk:approvals", result.output)          deferred_tool_results=results
    resume = await for_langgraph(bus, "desk:approvals", result["__interrupt__"])   Command(resume=resume)
    state = await for_openai_agents(bus, "desk:approvals", result)                 Runner.run(agent, state)
    resume = await for_agui(bus, "desk:approvals", events)                         RunAgentInput(resume=resume, ...)

The key of a decision is the id of its call. So a program that kept the run and was restarted asks for the same decisions
again, and gets the answers that came while it was away. Each answer is consumed before the function returns: it does its action
once. Give ``expires``, ``on_expiry`` and ``timeout`` as to ``bus.decide_by_human``. ``title`` is a function of the action and its
args.
"""

from __future__ import annotations

from .agui import for_agui
from .langgraph import for_langgraph
from .openai_agents import for_openai_agents
from .pydantic_ai import for_pydantic_ai

__all__ = ["for_agui", "for_langgraph", "for_openai_agents", "for_pydantic_ai"]
