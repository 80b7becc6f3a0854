"""Runs of each framework that stop for a person, and go on with what the person decided. Each returns what the run ends with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from ag_ui.core import RunAgentInput
from agents import Agent as OpenAIAgent
from agents import RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import TypeAdapter
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter

from arqonbus.agents import humans

Ask = Callable[[Callable[..., Awaitable[Any]], Any], Awaitable[Any]]


def _told(messages: list[ModelMessage]) -> list[str]:
    return [str(part.content) for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


async def pydantic_ai(ask: Ask) -> str:
    """A run of Pydantic AI whose tool needs an approval."""

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if told := _told(messages):
            return ModelResponse(parts=[TextPart(told[-1])])
        return ModelResponse(parts=[ToolCallPart("refund", {"amount": 20}, tool_call_id="c1")])

    agent: Agent[None, Any] = Agent(FunctionModel(model), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def refund(amount: int) -> str:
        return f"refunded {amount}"

    stopped = await agent.run("Refund 20.")
    results = await ask(humans.for_pydantic_ai, stopped.output)
    ended = await agent.run(message_history=stopped.all_messages(), deferred_tool_results=results)
    return str(ended.output)


class State(TypedDict, total=False):
    said: str


async def langgraph(ask: Ask) -> str:
    """A graph of LangGraph whose node calls ``interrupt``."""

    def refund(state: State) -> State:
        told = interrupt(
            {
                "action": "refund",
                "args": {"amount": 20},
                "title": "Refund 20?",
                "allow": ["approve", "edit", "respond", "reject"],
            }
        )
        if told["state"] in ("approved", "edited"):
            return {"said": f"refunded {told['args']['amount']}"}
        return {"said": told["comment"]}

    made: Any = StateGraph(State)
    made.add_node("refund", refund)
    made.add_edge(START, "refund")
    made.add_edge("refund", END)
    graph = made.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    stopped = await graph.ainvoke({"said": ""}, config)
    resume = await ask(humans.for_langgraph, stopped["__interrupt__"])
    return str((await graph.ainvoke(Command(resume=resume), config))["said"])


async def openai_agents(ask: Ask) -> str:
    """A run of OpenAI Agents whose tool needs an approval. The model's last words are what the tool gave."""

    @function_tool(needs_approval=True)
    def refund(amount: int) -> str:
        """Refund."""
        return f"refunded {amount}"

    model = ScriptedModel([[function_call("refund", {"amount": 20}, call_id="c1")], [assistant_message("done")]])
    agent = OpenAIAgent(name="clerk", model=model, tools=[refund])
    config = RunConfig(tracing_disabled=True)
    stopped = await Runner.run(agent, "Refund 20.", run_config=config)
    state = await ask(humans.for_openai_agents, stopped)
    ended = await Runner.run(agent, state, run_config=config)
    return next(str(item.output) for item in ended.new_items if item.type == "tool_call_output_item")


async def agui(ask: Ask) -> str:
    """A run over AG-UI (of Pydantic AI) that ends with an interrupt."""

    async def model(messages: list[ModelMessage], info: AgentInfo) -> Any:
        if told := _told(messages):
            yield told[-1]
        else:
            yield {0: DeltaToolCall(name="refund", json_args='{"amount": 20}', tool_call_id="c1")}

    agent: Agent[None, Any] = Agent(FunctionModel(stream_function=model), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def refund(amount: int) -> str:
        return f"refunded {amount}"

    question = {"id": "1", "role": "user", "content": "Refund 20."}
    call = {"id": "c1", "type": "function", "function": {"name": "refund", "arguments": '{"amount": 20}'}}

    async def run(**more: Any) -> list[Any]:
        given = {"threadId": "t", "state": {}, "tools": [], "context": [], "forwardedProps": {}, **more}
        adapter = AGUIAdapter(agent, TypeAdapter(RunAgentInput).validate_python(given))
        return [event async for event in adapter.run_stream()]

    events = await run(runId="1", messages=[question])
    resume = await ask(humans.for_agui, events)
    called = {"id": "2", "role": "assistant", "toolCalls": [call]}
    ended = await run(runId="2", messages=[question, called], resume=resume)
    return "".join(event.delta for event in ended if event.type == "TEXT_MESSAGE_CONTENT")
