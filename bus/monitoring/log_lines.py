"""Log lines: a sentence and the name of the event, as text or JSON; never a message's text, never a token.

A log call of the bus is ``logger.info("closed %s", code, extra={"event": "closed", …})``: the sentence is for people, ``event``
and the other fields of ``extra`` are for machines. docs/operations.md explains each event.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any
from urllib.parse import unquote

import msgspec

#: What a record has by itself; anything else came with ``extra``.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SIMPLE = (str, int, float, bool)
_SECRETS = re.compile(r"\b(token|ticket|access_token|resume_token)=(?!…)[^&\s\"]+")
#: What would begin a line of its own, move a terminal's cursor and colours, or turn the order of what is read around.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: What asyncio says for each of the 2,048 places of a server's queue, every second that no file can be opened.
_NO_FILES = "socket.accept() out of system resource"
#: What uvicorn says, with a traceback, of each text frame that is none.
_NO_TEXT = "Invalid UTF-8"
_PLAIN = re.compile(r"[A-Za-z0-9_\-.:@/+*,]+", re.ASCII)


def formatter(form: str = "console") -> logging.Formatter:
    """The formatter for ``form``: console or json. Fields of ``extra`` that are texts, numbers or truth values become fields."""
    return JsonFormatter() if form == "json" else ConsoleFormatter()


class _Formatter(logging.Formatter):
    """What both forms share. They are made by hand: a formatting library took four times as long for each line."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields that came with ``extra``. Objects are left out: nobody knows what their text would tell."""
        return {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN and (value is None or isinstance(value, _SIMPLE))
        }

    def moment(self, record: logging.LogRecord) -> str:
        """ISO 8601, UTC, milliseconds."""
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback and stack, if the record has them."""
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            parts.append(record.stack_info)
        return "\n".join(parts)


class ConsoleFormatter(_Formatter):
    """For people: time, level, sentence, fields, and the traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and those of a traceback."""
        fields = self.fields(record).items()
        shown = "".join(f" {name}={_readable(value)}" for name, value in fields if value is not None)
        sentence = tame(record.getMessage())
        line = f"{self.moment(record)} {record.levelname:<7} {sentence} [{record.name}]{shown}"
        trace = self.trace(record)
        return "\n".join((line, *map(tame, trace.split("\n")))) if trace else line


class JsonFormatter(_Formatter):
    """For machines: one JSON object a line; ``message`` is the sentence."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
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
    """A request's line without the secrets of its query; all of the query goes where one may be written in escapes."""
    text = _SECRETS.sub(r"\1=…", text)
    before, mark, query = text.partition("?")
    if mark and "%" in query and _SECRETS.search(unquote(query)):
        return f"{before}?…"
    return text


class MaskSecrets(logging.Filter):
    """Takes secrets out of the URLs in a server's own access log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every line stays."""
        if isinstance(record.args, tuple):
            record.args = tuple(without_secrets(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


class Damper:
    """Lets ``burst`` lines through at once and ``rate`` a second from then on; what is left out is counted."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level = burst
        self._at = time.monotonic()
        self._left_out = 0

    def admit(self) -> int | None:
        """None to leave a line out, else how many were left out before it."""
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
    """What strangers make the libraries write: one line each without a traceback, and of a flood not every one.

    It is for the handler, and leaves our own lines and the failures of our own code as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._damper = Damper(rate=5.0, burst=50.0)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
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
            # Its only errors that are a stranger's: a frame that is no UTF-8.
            return record.levelno == logging.WARNING or str(record.msg).startswith(_NO_TEXT)
        if record.name == "asyncio":
            return str(record.msg).startswith(_NO_FILES)
        return record.name.startswith("django.security") or record.name == "daphne.ws_protocol"


def _readable(value: Any) -> str:
    """Bare where it is one plain word; else as JSON, so that no text can pass for another field or line."""
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return tame(msgspec.json.encode(value).decode())
    return str(value)


def tame(text: str) -> str:
    """The text with its control characters as JSON would write them; it may leave some bare, which a terminal obeys."""
    return _CONTROL.sub(lambda found: "\\n" if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
