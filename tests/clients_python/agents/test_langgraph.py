"""LangGraph's ``astream``, in each of its forms."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.clients_python.agents.collecting import (
    Slow,
    expect_that_a_cancelled_reader_ends_the_run,
    parts,
    text,
    types,
    until_it_fails,
)

pytestmark = pytest.mark.pure


@pytest.fixture(scope="module")
def runs() -> Any:
    """The runs. Only the process that runs these tests imports the framework."""
    return importlib.import_module("tests.clients_python.agents.langgraph_runs")


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
async def test_every_form_gives_the_answer_once(runs: Any, form: dict[str, Any]) -> None:
    """Of tokens where the mode has tokens, else as one delta. The tool's result is no part of the answer."""
    assert "".join(deltas := await text(runs.graph().astream(runs.QUESTION, **form))) == runs.ANSWER
    assert (len(deltas) > 1) == ("messages" in form["stream_mode"])
    events = await parts(runs.graph().astream(runs.QUESTION, **form))
    assert events[0] == {"type": "RUN_STARTED", "threadId": "chat:42", "runId": "arq_a1"}
    assert events[-1] == {"type": "RUN_FINISHED", "threadId": "chat:42", "runId": "arq_a1"}
    assert "".join(part["delta"] for part in events if part["type"] == "TEXT_MESSAGE_CONTENT") == runs.ANSWER
    assert [part["toolCallName"] for part in events if part["type"] == "TOOL_CALL_START"] == ["weather"]
    assert [part["delta"] for part in events if part["type"] == "TOOL_CALL_ARGS"] == ['{"city": "Rome"}']
    assert [part["content"] for part in events if part["type"] == "TOOL_CALL_RESULT"] == ["sunny in Rome"]


async def test_a_stream_of_parts_gets_events_in_an_order_that_agui_clients_accept(runs: Any) -> None:
    assert types(await parts(runs.graph().astream(runs.QUESTION, stream_mode="messages"))) == [
        "RUN_STARTED", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
    ]  # fmt: skip


async def test_steps_state_and_own_events_are_parts_too(runs: Any) -> None:
    steps = await parts(runs.graph().astream(runs.QUESTION, stream_mode=["updates", "values", "custom"]))
    assert [part["stepName"] for part in steps if part["type"] == "STEP_FINISHED"] == ["ask", "tools", "answer"]
    assert [part["snapshot"] for part in steps if part["type"] == "STATE_SNAPSHOT"] == [{"cities": 1}]
    assert [(part["name"], part["value"]) for part in steps if part["type"] == "CUSTOM"] == [
        ("updates", {"ask": {"cities": 1}}),
        ("custom", {"seen": 3}),
    ]


async def test_earlier_answers_of_the_thread_are_not_given_again(runs: Any) -> None:
    asked = runs.with_memory()
    config = {"configurable": {"thread_id": "1"}}
    assert await text(asked.astream(runs.QUESTION, config, stream_mode="values")) == [runs.ANSWER]
    assert await text(asked.astream(runs.QUESTION, config, stream_mode="values")) == ["Still sunny"]


async def test_a_call_whose_arguments_come_in_bits(runs: Any) -> None:
    events = await parts(runs.bits())
    assert [part["delta"] for part in events if part["type"] == "TOOL_CALL_ARGS"] == ['{"city":', '"Rome"}']
    assert len([part for part in events if part["type"] == "TOOL_CALL_START"]) == 1
    assert [part["delta"] for part in events if part["type"] == "TEXT_MESSAGE_CONTENT"] == ["Sunny."]


async def test_a_node_that_fails_ends_the_parts_with_an_error_that_tells_nothing_more(runs: Any) -> None:
    found, raised = await until_it_fails(runs.failing().astream(runs.QUESTION, stream_mode="messages"), RuntimeError)
    assert "1234" in str(raised)
    assert found[-2:] == [
        {"type": "TEXT_MESSAGE_END", "messageId": found[1]["messageId"]},
        {"type": "RUN_ERROR", "message": "The run failed."},
    ]


async def test_a_stop_ends_the_run(runs: Any) -> None:
    slow = Slow()
    await expect_that_a_cancelled_reader_ends_the_run(
        runs.waiting(slow).astream(runs.QUESTION, stream_mode="messages"), slow
    )
