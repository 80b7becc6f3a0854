"""The trace of a publisher reaches workers and responders as a link, and the bus hands it on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace

from arqonbus import Message
from tests.clients_python.conftest import Connect

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded

_numbers = itertools.count(1)


class Recorded(trace.NonRecordingSpan):
    """A span of the API that keeps what it is given."""

    def __init__(self, name: str, kind: trace.SpanKind, links: Any, attributes: Any) -> None:
        number = next(_numbers)
        super().__init__(trace.SpanContext(number, number, False, trace.TraceFlags(1)))
        self.name, self.kind, self.attributes = name, kind, dict(attributes or {})
        self.links = [link.context.trace_id for link in links or ()]
        self.errors: list[str] = []
        self.ended = False

    def record_exception(self, exception: BaseException, *_: Any, **__: Any) -> None:
        """Keep the error."""
        self.errors.append(repr(exception))

    def end(self, end_time: int | None = None) -> None:
        """Keep that it is over."""
        self.ended = True


class Tracer(trace.Tracer):
    """A tracer of the API that keeps its spans."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def start_span(  # type: ignore[override]
        self, name: str, *, kind: trace.SpanKind = trace.SpanKind.INTERNAL, links: Any = None, attributes: Any = None
    ) -> Recorded:
        """Begin a span."""
        self.spans.append(Recorded(name, kind, links, attributes))
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(self, name: str, **options: Any) -> Iterator[trace.Span]:  # type: ignore[override]
        """Begin a span, and make it the present one."""
        span = self.start_span(name, **options)
        with trace.use_span(span, end_on_exit=True):
            yield span


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """The tracer of this test alone."""
    made = Tracer()
    monkeypatch.setattr(trace, "get_tracer", lambda *_: made)
    return made


async def test_workers_and_responders_link_the_trace_of_the_publisher(
    client: Connect, fresh_room: str, admin_token: str, tracer: Tracer
) -> None:
    address = f"{fresh_room}:new"
    boss, worker = await client(token=admin_token), await client()
    await boss.create_channel(address, work=True)
    receipt = await boss.publish(address, "a job")
    async with await worker.work(address).get(WAIT) as job:
        assert trace.get_current_span() is tracer.spans[-1]
        raise LookupError("there is none")
    sent, did = tracer.spans
    assert (
        job.message.traceparent
        == f"00-{sent.get_span_context().trace_id:032x}-{sent.get_span_context().span_id:016x}-01"
    )
    assert (sent.name, sent.kind, sent.ended) == (f"send {address}", trace.SpanKind.PRODUCER, True)
    assert (did.name, did.kind, did.ended) == (f"process {address}", trace.SpanKind.CONSUMER, True)
    assert did.links == [sent.get_span_context().trace_id]
    assert did.errors == ["LookupError('there is none')"]
    assert did.attributes["messaging.message.id"] == receipt.id
    assert did.attributes["messaging.system"] == "arqonbus"
    tracer.spans.clear()

    @worker.answers
    async def answer(question: Message) -> dict[str, Any]:
        return {"span": trace.get_current_span().get_span_context().span_id}

    reply = await boss.ask(worker.client_id, "hello")
    asked, answered = tracer.spans
    assert (asked.kind, answered.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    assert answered.links == [asked.get_span_context().trace_id]
    assert reply.payload == {"span": answered.get_span_context().span_id}
    assert answered.ended
    assert reply.traceparent


async def test_a_program_that_gives_a_trace_itself_keeps_it(client: Connect, fresh_room: str, tracer: Tracer) -> None:
    bus = await client()
    async with bus.subscribe(f"{fresh_room}:a", echo=True) as messages:
        await bus.publish(f"{fresh_room}:a", "hello")
        assert (await messages.get(WAIT)).traceparent
    assert [span.ended for span in tracer.spans] == [True]
    assert not trace.get_current_span().get_span_context().is_valid
