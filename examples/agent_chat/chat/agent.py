"""The agent. Without a model it speaks a fixed text, word by word, so that the example needs no key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable

from ag_ui.core import AssistantMessage, Message, RunAgentInput, UserMessage
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter

import arqonbus

#: Seconds between two words of the fixed text.
PAUSE = float(os.environ.get("CHAT_PAUSE", "0.15"))

SPEECH = """\
This answer is one message of the bus, and it grows while you read it. Reload the page in the middle: the words so far are
there, and the rest follows. Open a second page: it shows the same. Now be cruel and kill the server with signal 9. The worker
keeps the words, the page waits, and when the server is back, nothing is missing and nothing is there twice."""


async def speak(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    """Speak as slowly as a model that thinks."""
    for word in SPEECH.split():
        yield f"{word} "
        await asyncio.sleep(PAUSE)


agent: Agent[None, str] = Agent(
    os.environ.get("CHAT_MODEL") or FunctionModel(stream_function=speak),  # such as openai:gpt-5
    instructions="Answer in plain text and in a few sentences.",
)


def run(run_id: str, channel: str, said: Iterable[arqonbus.Message]) -> AGUIAdapter[None, str]:
    """Prepare a run of the agent over what was said. The last message is the question."""
    messages: list[Message] = [
        UserMessage(id=message.id, content=message.text)
        if message.payload.get("role") == "user"
        else AssistantMessage(id=message.id, content=message.text)
        for message in said
        if message.text
    ]
    return AGUIAdapter(
        agent,
        RunAgentInput(
            thread_id=channel, run_id=run_id, state={}, messages=messages, tools=[], context=[], forwarded_props={}
        ),
    )
