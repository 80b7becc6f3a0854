"""Output for people, with colours, and for scripts, as JSON with one object a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..messages import Message, parse_time


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # Rich would end the process with 1. A closed pipe is no error here (see `carry_out`).
        raise BrokenPipeError


#: A pipe gets whole lines. For a terminal or with COLUMNS, the width is theirs.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 250
out = _Console(soft_wrap=True, highlight=False, markup=False, width=_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

_SENDER_COLOURS = ("green", "magenta", "blue", "yellow", "bright_cyan", "bright_red")


def say(text: str, style: str = "dim") -> None:
    """Write a remark to standard error."""
    err.print(Text(plain(text), style=style))


def fail(what: str, hint: str) -> None:
    """Write an error to standard error."""
    err.print(Text.assemble(("error: ", "bold red"), plain(what)))
    if hint:
        err.print(Text(plain(hint), style="dim"))


def as_json(value: Any) -> None:
    """Write a value as one line of JSON. Characters that control a terminal or end a line are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def message_as_json(message: Message) -> None:
    """Write a received message as one line of JSON. ``after_gap`` says that earlier messages are lost."""
    as_json({**message.raw, "after_gap": True} if message.after_gap else message.raw)


def plain(text: str) -> str:
    """Escape the control characters in a text of somebody else, so that they cannot control the terminal."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def show_message(message: Message) -> None:
    """Write one message on one line. Further lines of its text are indented, so that none looks like a message."""
    if message.after_gap:
        say("— earlier messages are lost —", "yellow")
    out.print(line_of(message))
    out.file.flush()


def line_of(message: Message) -> Text:
    """Return the line of a message, with the text and the state that a streamed message has now."""
    when = message.timestamp.astimezone().strftime("%H:%M:%S") if message.timestamp else "--:--:--"
    colour = _SENDER_COLOURS[sum(message.sender.encode()) % len(_SENDER_COLOURS)]
    line = Text.assemble(
        (when, "dim"),
        " ",
        (plain(message.address), "cyan"),
        (f" #{message.seq}" if message.seq is not None else "", "dim"),
        " ",
        (plain(message.sender), f"bold {colour}"),
    )
    if message.amends is not None:
        line.append(f" [{plain(str(message.raw.get('do')))} of #{message.raw.get('of_seq')}]", "yellow")
    elif message.type != "event":
        line.append(f" [{plain(message.type)}]", "yellow")
    line.append("  ")
    extra = {key: value for key, value in message.payload.items() if not (key == "message" and value == message.text)}
    if message.text:
        line.append(plain(message.text).replace("\n", "\n    "))
    if isinstance(message.raw.get("reaction"), str):
        line.append(plain(message.raw["reaction"]))
    elif message.deleted or message.erased or message.raw.get("do") == "delete":
        line.append("(deleted)" if message.deleted else "(erased)" if message.erased else "", "dim")
    elif extra or not message.text:
        if message.text:
            line.append("  ")
        line.append(plain(json.dumps(extra, ensure_ascii=False)), "dim" if message.text else "")
    if message.edited:
        line.append("  (edited)", "dim")
    for reaction, clients in message.reactions.items():
        line.append(f"  {plain(reaction)} {len(clients)}", "dim")
    if message.parts:
        line.append(f"  ({len(message.parts)} parts)", "dim")
    if message.state not in (None, "complete"):
        line.append(" …" if message.state == "open" else f"  [{message.state}]", "yellow")
    return line


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table."""
    shown = Table(title=plain(title) or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        # The first column names the row, so it is never cut.
        shown.add_column(name, overflow="fold", no_wrap=number == 0)
    for row in rows:
        shown.add_row(*(Text(plain("" if cell is None else str(cell))) for cell in row))
    out.print(shown)


def ago(moment: str | None, now: datetime) -> str:
    """Return how long ago a wire time is."""
    if not moment:
        return "never"
    then = parse_time(moment)
    if then is None:
        return plain(moment)
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
