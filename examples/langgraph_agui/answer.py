#!/usr/bin/env python
"""A LangGraph graph that publishes its run into a stream of the bus.

``python answer.py "Where is the kettle?"`` prints the id of the stream at once, and then runs the graph. Anybody with the right
may follow the run, from the middle on or after its end, with any AG-UI client: see ``follow.mjs``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models.fake_chat_models import FakeListChatModel, FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

import arqonbus

#: Seconds between two characters of the answer.
PAUSE = float(os.environ.get("PAUSE", "0.03"))
ANSWER = "The kettle is in the kitchen, on the lower shelf beside the window. It was last used this morning, for two cups of tea."


@tool
def look_up(thing: str) -> str:
    """Look up where a thing is."""
    return f"{thing}: kitchen, lower shelf"


def graph() -> Any:
    """Build a graph that looks something up and answers. Put your models here: these two need no key and no network."""
    look = AIMessage("", tool_calls=[{"name": "look_up", "args": {"thing": "kettle"}, "id": "call-1"}])
    planner = FakeMessagesListChatModel(responses=[look])
    speaker = FakeListChatModel(responses=[ANSWER], sleep=PAUSE)

    async def plan(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await planner.ainvoke(state["messages"])]}

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await speaker.ainvoke(state["messages"])]}

    made: Any = StateGraph(MessagesState)
    made.add_node("plan", plan)
    made.add_node("tools", ToolNode([look_up]))
    made.add_node("answer", answer)
    made.add_edge(START, "plan")
    made.add_edge("plan", "tools")
    made.add_edge("tools", "answer")
    made.add_edge("answer", END)
    return made.compile()


async def main() -> None:
    """Read the command line, open a stream and run the graph into it."""
    parser = argparse.ArgumentParser(description="Run a LangGraph graph into a stream of an ArqonBus.")
    parser.add_argument("question")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"), help="URL of the bus")
    parser.add_argument("--channel", default="graphs:runs", help="channel of the run, as room:channel")
    chosen = parser.parse_args()
    token = os.environ.get("ARQONBUS_TOKEN")
    async with arqonbus.connect(chosen.url, client_type="ai-agent", token=token, wait=30) as bus:
        async with bus.stream(chosen.channel, mode="parts", payload={"question": chosen.question}) as out:
            print(out.of, flush=True)
            question = {"messages": [{"role": "user", "content": chosen.question}]}
            events: AsyncIterator[Any] = graph().astream(question, stream_mode=["messages", "updates"])
            await out.pipe(events)
        print(f"{out.state} after {out.have} parts", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except arqonbus.ArqonBusError as problem:
        raise SystemExit(f"answer: {problem}") from None
