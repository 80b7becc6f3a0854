"""Runs of LangGraph with LangChain's fake models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode

from tests.clients_python.agents.collecting import Slow

ANSWER = "It is sunny in Rome"
QUESTION = {"messages": [{"role": "user", "content": "What is the weather?"}]}
TOOL_CALL = {"name": "weather", "args": {"city": "Rome"}, "id": "c1"}


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    cities: int


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def graph(checkpointer: Any = None) -> Any:
    """A graph that calls a tool and answers in words."""
    caller = FakeMessagesListChatModel(responses=[AIMessage("", tool_calls=[TOOL_CALL])])
    talker = GenericFakeChatModel(messages=iter([AIMessage(ANSWER), AIMessage("Still sunny")]))

    async def ask(state: State) -> State:
        return {"messages": [await caller.ainvoke(state["messages"])], "cities": 1}

    async def answer(state: State) -> State:
        get_stream_writer()({"seen": len(state["messages"])})
        return {"messages": [await talker.ainvoke(state["messages"])]}

    made: Any = StateGraph(State)
    made.add_node("ask", ask)
    made.add_node("tools", ToolNode([weather]))
    made.add_node("answer", answer)
    made.add_edge(START, "ask")
    made.add_edge("ask", "tools")
    made.add_edge("tools", "answer")
    made.add_edge("answer", END)
    return made.compile(checkpointer=checkpointer)


def with_memory() -> Any:
    """The graph with a checkpointer: a thread goes on."""
    return graph(InMemorySaver())


async def bits() -> AsyncIterator[object]:
    """A call of a tool whose arguments come in bits, and an answer with reasoning."""
    for call_id, name, args in (("c1", "weather", ""), (None, None, '{"city":'), (None, None, '"Rome"}')):
        bit = {"type": "tool_call_chunk", "id": call_id, "name": name, "args": args, "index": 0}
        yield AIMessageChunk("", id="m1", tool_call_chunks=[bit]), {"langgraph_node": "ask"}
    yield ToolMessage("sunny", tool_call_id="c1", id="m2"), {"langgraph_node": "tools"}
    thought = [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "Sunny"}, "."]
    yield AIMessageChunk(thought, id="m3"), {"langgraph_node": "answer"}


def moment(then: Any) -> Any:
    """A graph that says "One moment" and goes on with a node of the caller."""
    made: Any = StateGraph(State)
    made.add_node("begin", lambda state: {"messages": [AIMessage("One moment")]})
    made.add_node("then", then)
    made.add_edge(START, "begin")
    made.add_edge("begin", "then")
    return made.compile()


def failing() -> Any:
    """A graph whose second node raises an error with a secret in it."""

    async def fail(state: State) -> State:
        raise RuntimeError("the password is 1234")

    return moment(fail)


def waiting(slow: Slow) -> Any:
    """A graph whose second node never ends."""

    async def wait(state: State) -> State:
        await slow.do()
        return {}

    return moment(wait)
