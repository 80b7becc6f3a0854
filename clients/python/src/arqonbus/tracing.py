"""Trace contexts on messages, for programs that trace with OpenTelemetry (extra ``[otel]``).

A program that traces has imported OpenTelemetry by itself. For all others every function here is one look-up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .messages import Message

#: The keys of a frame that carry a trace context (W3C).
KEYS = ("traceparent", "tracestate")


def _api() -> Any:
    """Return the module ``opentelemetry.trace``, if the program uses it."""
    return sys.modules.get("opentelemetry.trace")


def _attributes(operation: str, address: str, **more: Any) -> dict[str, Any]:
    kept = {key: value for key, value in more.items() if value not in (None, "")}
    return {
        "messaging.system": "arqonbus",
        "messaging.operation.type": operation,
        "messaging.destination.name": address,
        **{f"messaging.{key.replace('__', '.')}": value for key, value in kept.items()},
    }


@contextmanager
def publishing(frame: dict[str, Any], address: str, operation: str = "send") -> Iterator[None]:
    """A producer span around the publishing of a frame. The frame carries its context, unless it has one already."""
    trace = _api()
    if trace is None or "traceparent" in frame:
        yield
        return
    tracer = trace.get_tracer("arqonbus")
    attributes = _attributes(operation, address, message__id=frame.get("id"))
    with tracer.start_as_current_span(f"{operation} {address}", kind=trace.SpanKind.PRODUCER, attributes=attributes):
        inject(frame)
        yield


def inject(frame: dict[str, Any]) -> None:
    """Write the present trace context into a frame."""
    trace = _api()
    if trace is None:
        return
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return
    frame["traceparent"] = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
    if state := context.trace_state.to_header():
        frame["tracestate"] = state


class Span:
    """A consumer span that is the present one until :meth:`end`."""

    def __init__(self, scope: Any, span: Any) -> None:
        self._scope = scope
        self._span = span

    def end(self, error: BaseException | None) -> None:
        """End the span, perhaps with an error."""
        if error is not None and isinstance(error, Exception):
            self._span.record_exception(error)
            status = sys.modules["opentelemetry.trace"]
            self._span.set_status(status.Status(status.StatusCode.ERROR, repr(error)))
        self._scope.__exit__(None, None, None)
        self._span.end()


def consuming(operation: str, message: Message) -> Span | None:
    """Begin a consumer span that is linked with the publisher's. None if the program does not trace."""
    trace = _api()
    if trace is None:
        return None
    context = _context_of(trace, message)
    span = trace.get_tracer("arqonbus").start_span(
        f"{operation} {message.address}",
        kind=trace.SpanKind.CONSUMER,
        links=[trace.Link(context)] if context is not None else [],
        attributes=_attributes(operation, message.address, message__id=message.id),
    )
    scope = trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)
    scope.__enter__()
    return Span(scope, span)


def _context_of(trace: Any, message: Message) -> Any:
    """Return the trace context of a message, or None."""
    parts = (message.traceparent or "").split("-")
    if len(parts) < 4 or parts[0] == "ff":
        return None
    try:
        trace_id, span_id, flags = int(parts[1], 16), int(parts[2], 16), int(parts[3], 16)
    except ValueError:
        return None
    state = message.raw.get("tracestate")
    context = trace.SpanContext(
        trace_id,
        span_id,
        is_remote=True,
        trace_flags=trace.TraceFlags(flags),
        trace_state=trace.TraceState.from_header([state]) if isinstance(state, str) else None,
    )
    return context if context.is_valid else None
