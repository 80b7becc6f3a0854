"""Log lines: a sentence and the name of the event, as text or JSON; never a message's text, never a token.

A log call of the bus is ``logger.info("closed %s", code, extra={"event": "closed", …})``: the sentence is for people, ``event``
and the other fields of ``extra`` are for machines. docs/operations.md explains each event.
"""

from __future__ import annotations

import logging

import structlog


def _sentence(logger: object, method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """structlog keeps the sentence under ``event``; there the name of the event belongs."""
    fields["message"] = fields.pop("event")
    return fields


def formatter(form: str = "console") -> logging.Formatter:
    """The formatter for ``form``: console or json. ``extra`` of a log call become fields."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, event_key="message", pad_event_to=0)
    )
    shared: list[structlog.typing.Processor] = [
        _sentence,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
