"""Log lines: a sentence and the name of an event, as text or JSON, without messages' texts and without tokens.

A log call of the bus is ``logger.info("closed %s", code, extra={"event": "closed", …})``. The sentence is for people.
``event`` and the other fields of ``extra`` are for machines. docs/operations.md explains each event.
"""

from __future__ import annotations

import logging
import re
import time
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

#: Attributes of every log record. Any other attribute came with ``extra``.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SIMPLE = (str, int, float, bool)
_SECRETS = re.compile(r"\b(token|ticket|access_token|resume_token)=(?!…)[^&\s\"]+")
#: Characters that begin a new line, control a terminal, or change the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: asyncio's line for each of the 2,048 places of a server's queue, every second while no file can be opened.
_NO_FILES = "socket.accept() out of system resource"
#: uvicorn's line, with a traceback, for each text frame that is not valid UTF-8.
_NO_TEXT = "Invalid UTF-8"
_PLAIN = re.compile(r"[A-Za-z0-9_\-.:@/+*,]+", re.ASCII)


def formatter(form: str = "console") -> logging.Formatter:
    """Return the formatter for ``form``: console or json.

    Fields of ``extra`` that are texts, numbers or truth values become fields of the line.
    """
    return JsonFormatter() if form == "json" else ConsoleFormatter()


class _Formatter(logging.Formatter):
    """The common part of both forms. They need no library, because one took four times as long for each line."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the fields that came with ``extra``. Objects are left out, because their texts could contain secrets."""
        return {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN and (value is None or isinstance(value, _SIMPLE))
        }

    def moment(self, record: logging.LogRecord) -> str:
        """Return the record's time: ISO 8601, UTC, milliseconds."""
        return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"

    def trace(self, record: logging.LogRecord) -> str:
        """Return the traceback and the stack, if the record has them."""
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            parts.append(record.stack_info)
        return "\n".join(parts)


@lru_cache(maxsize=4)
def _second(moment: int) -> str:
    """Return the text of a second, which the lines of a burst share."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


class ConsoleFormatter(_Formatter):
    """Lines for people: time, level, sentence and fields, followed by a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, followed by the lines of a traceback."""
        fields = self.fields(record).items()
        shown = "".join(f" {name}={_readable(value)}" for name, value in fields if value is not None)
        sentence = tame(record.getMessage())
        line = f"{self.moment(record)} {record.levelname:<7} {sentence} [{record.name}]{shown}"
        trace = self.trace(record)
        return "\n".join((line, *map(tame, trace.split("\n")))) if trace else line


class JsonFormatter(_Formatter):
    """Lines for machines: one JSON object per line. ``message`` is the sentence."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line: dict[str, Any] = {
            "timestamp": self.moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields(record),
        }
        if trace := self.trace(record):
            line["exception"] = trace
        return tame(msgspec.json.encode(line).decode())


def without_secrets(text: str) -> str:
    """Return a request line without the secrets of its query.

    The whole query is removed if a secret may be in it with percent-encoding.
    """
    if "=" not in text and "%" not in text:
        return text
    text = _SECRETS.sub(r"\1=…", text)
    before, mark, query = text.partition("?")
    if mark and "%" in query and _SECRETS.search(unquote(query)):
        return f"{before}?…"
    return text


class MaskSecrets(logging.Filter):
    """Removes secrets from the URLs in a server's own access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the secrets of a line. Returns True, because every line is kept."""
        if isinstance(record.args, tuple):
            record.args = tuple(without_secrets(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


class Damper:
    """Limits lines to a ``burst`` at once and then to ``rate`` a second. It counts the dropped lines."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level = burst
        self._at = time.monotonic()
        self._left_out = 0

    def admit(self) -> int | None:
        """Return None to drop a line, else the number of lines dropped before it."""
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            self._left_out += 1
            return None
        self._level -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class Strangers(logging.Filter):
    """Shortens log lines of libraries that unknown clients can cause: each has no traceback, and a flood loses lines.

    This filter belongs to the handler. It leaves lines of the bus and failures of our own code unchanged.
    """

    def __init__(self) -> None:
        super().__init__()
        self._damper = Damper(rate=5.0, burst=50.0)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written. A line that unknown clients caused is shortened."""
        if not self._of_strangers(record):
            return True
        record.exc_info = record.exc_text = None
        sentence = record.getMessage().rstrip()
        if sentence.startswith(_NO_FILES):
            record.msg, record.args = (
                "New connections are refused: raise the limit of open files (LimitNOFILE, ulimit -n)",
                (),
            )
        if "Traceback" in sentence:
            record.msg, record.args = f"Unreadable handshake: {sentence.rpartition(chr(10))[2]}", ()
        left_out = self._damper.admit()
        if left_out:
            record.left_out = left_out
        return left_out is not None

    @staticmethod
    def _of_strangers(record: logging.LogRecord) -> bool:
        if record.name == "django.request":
            return getattr(record, "status_code", 500) < 500
        if record.name == "uvicorn.error":
            # An invalid UTF-8 frame is the only error in this log that a client causes.
            return record.levelno == logging.WARNING or str(record.msg).startswith(_NO_TEXT)
        if record.name == "asyncio":
            return str(record.msg).startswith(_NO_FILES)
        return record.name.startswith("django.security") or record.name == "daphne.ws_protocol"


def _readable(value: Any) -> str:
    """Return a single plain word as it is, and any other text as JSON. So no text can look like another field or line."""
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return tame(msgspec.json.encode(value).decode())
    return str(value)


def tame(text: str) -> str:
    """Return the text with its control characters escaped as in JSON.

    JSON itself may leave some of them unescaped, and a terminal would obey those.
    """
    return _CONTROL.sub(lambda found: "\\n" if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
