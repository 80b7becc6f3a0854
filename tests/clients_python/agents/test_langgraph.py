"""LangGraph's ``astream``, in each of its forms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode

from tests.clients_python.agents.collecting import (
    Slow,
    expect_that_a_cancelled_reader_ends_the_run,
    parts,
    text,
    types,
    until_it_fails,
)

pytestmark = pytest.mark.pure

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


FORMS: list[dict[str, Any]] = [
    {"stream_mode": "messages"},
    {"stream_mode": "updates"},
    {"stream_mode": "values"},
    {"stream_mode": ["messages", "updates", "values", "custom", "tasks", "debug"]},
    {"stream_mode": "messages", "subgraphs": True},
    {"stream_mode": ["values", "messages"], "subgraphs": True},
    {"stream_mode": "messages", "version": "v2"},
    {"stream_mode": ["updates", "messages"], "version": "v2", "subgraphs": True},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_every_form_gives_the_answer_once(form: dict[str, Any]) -> None:
    """Of tokens where the mode has tokens, else as one delta. The tool's result is no part of the answer."""
    assert "".join(deltas := await text(graph().astream(QUESTION, **form))) == ANSWER
    assert (len(deltas) > 1) == ("messages" in form["stream_mode"])
    events = await parts(graph().astream(QUESTION, **form))
    assert events[0] == {"type": "RUN_STARTED", "threadId": "chat:42", "runId": "arq_a1"}
    assert events[-1] == {"type": "RUN_FINISHED", "threadId": "chat:42", "runId": "arq_a1"}
    assert "".join(part["delta"] for part in events if part["type"] == "TEXT_MESSAGE_CONTENT") == ANSWER
    assert [part["toolCallName"] for part in events if part["type"] == "TOOL_CALL_START"] == ["weather"]
    assert [part["delta"] for part in events if part["type"] == "TOOL_CALL_ARGS"] == ['{"city": "Rome"}']
    assert [part["content"] for part in events if part["type"] == "TOOL_CALL_RESULT"] == ["sunny in Rome"]


async def test_a_stream_of_parts_gets_events_in_an_order_that_agui_clients_accept() -> None:
    assert types(await parts(graph().astream(QUESTION, stream_mode="messages"))) == [
        "RUN_STARTED", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
    ]  # fmt: skip


async def test_steps_state_and_own_events_are_parts_too() -> None:
    steps = await parts(graph().astream(QUESTION, stream_mode=["updates", "values", "custom"]))
    assert [part["stepName"] for part in steps if part["type"] == "STEP_FINISHED"] == ["ask", "tools", "answer"]
    assert [part["snapshot"] for part in steps if part["type"] == "STATE_SNAPSHOT"] == [{"cities": 1}]
    assert [(part["name"], part["value"]) for part in steps if part["type"] == "CUSTOM"] == [
        ("updates", {"ask": {"cities": 1}}),
        ("custom", {"seen": 3}),
    ]


async def test_earlier_answers_of_the_thread_are_not_given_again() -> None:
    asked = graph(InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert await text(asked.astream(QUESTION, config, stream_mode="values")) == [ANSWER]
    assert await text(asked.astream(QUESTION, config, stream_mode="values")) == ["Still sunny"]


async def test_a_call_whose_arguments_come_in_bits() -> None:
    async def bits() -> AsyncIterator[object]:
        for call_id, name, args in (("c1", "weather", ""), (None, None, '{"city":'), (None, None, '"Rome"}')):
            bit = {"type": "tool_call_chunk", "id": call_id, "name": name, "args": args, "index": 0}
            yield AIMessageChunk("", id="m1", tool_call_chunks=[bit]), {"langgraph_node": "ask"}
        yield ToolMessage("sunny", tool_call_id="c1", id="m2"), {"langgraph_node": "tools"}
        thought = [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "Sunny"}, "."]
        yield AIMessageChunk(thought, id="m3"), {"langgraph_node": "answer"}

    events = await parts(bits())
    assert [part["delta"] for part in events if part["type"] == "TOOL_CALL_ARGS"] == ['{"city":', '"Rome"}']
    assert len([part for part in events if part["type"] == "TOOL_CALL_START"]) == 1
    assert [part["delta"] for part in events if part["type"] == "TEXT_MESSAGE_CONTENT"] == ["Sunny."]


async def test_a_node_that_fails_ends_the_parts_with_an_error_that_tells_nothing_more() -> None:
    async def fail(state: State) -> State:
        raise RuntimeError("the password is 1234")

    made: Any = StateGraph(State)
    made.add_node("ask", lambda state: {"messages": [AIMessage("One moment")]})
    made.add_node("fail", fail)
    made.add_edge(START, "ask")
    made.add_edge("ask", "fail")
    found, raised = await until_it_fails(made.compile().astream(QUESTION, stream_mode="messages"), RuntimeError)
    assert "1234" in str(raised)
    assert found[-2:] == [
        {"type": "TEXT_MESSAGE_END", "messageId": found[1]["messageId"]},
        {"type": "RUN_ERROR", "message": "The run failed."},
    ]


async def test_a_stop_ends_the_run() -> None:
    slow = Slow()

    async def wait(state: State) -> State:
        await slow.do()
        return {}

    made: Any = StateGraph(State)
    made.add_node("begin", lambda state: {"messages": [AIMessage("One moment")]})
    made.add_node("wait", wait)
    made.add_edge(START, "begin")
    made.add_edge("begin", "wait")
    await expect_that_a_cancelled_reader_ends_the_run(made.compile().astream(QUESTION, stream_mode="messages"), slow)
