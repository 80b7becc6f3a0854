"""Run a program for each job of a work channel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..jobs import Job
from ..messages import wire_time

#: How long a program may go on after it was told to end, in seconds.
ENDING = 5.0
#: How long the rest of the output may take after the end of the program, in seconds, and how often to look for that end.
LINGERING, POLL = 2.0, 0.02
#: The most bytes of standard output that can be a result, for a server that does not name its limit.
RESULT = 131_072
#: The longest text that goes into an environment variable, in characters.
TEXT = 30_000


class ProgramFailed(Exception):
    """The program did not end with 0. The text is the last line of its standard error."""


class ResultTooLong(ProgramFailed):
    """The program wrote more than a result can be. Another attempt would end in the same way."""


@dataclass(frozen=True)
class Program:
    """A program with its arguments. ``timeout`` is the time of one job in seconds (None: no limit)."""

    command: list[str]
    timeout: float | None = None
    most: int = RESULT

    async def run(self, job: Job) -> Any:
        """Run the program for a job and return its result: the JSON or the text of its standard output, or None.

        The job is cancelled with this call: the program and its children get SIGTERM, and SIGKILL after a few seconds. Raises
        ``ProgramFailed`` (``ResultTooLong``), and ``OSError`` if the program cannot be started.
        """
        process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment(job)},
            start_new_session=sys.platform != "win32",
        )
        last: deque[str] = deque(maxlen=1)
        output = bytearray()
        talk = [
            asyncio.ensure_future(work)
            for work in (_give(process, job), self._result(process, output), _pass_on(process, last))
        ]
        try:
            async with asyncio.timeout(self.timeout):
                code = await _exited(process, talk)
                # A child that goes on in the background may keep the pipes open.
                await asyncio.wait(talk, timeout=LINGERING)
                _check(talk)
        except TimeoutError:
            raise ProgramFailed(f"The program took longer than {self.timeout:g} s.") from None
        finally:
            for each in talk:
                each.cancel()
            await asyncio.wait(talk)
            await _end(process)
        if code:
            how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
            raise ProgramFailed(last[0] if last else f"The program ended with {how}.")
        return result_of(bytes(output))

    async def _result(self, process: asyncio.subprocess.Process, output: bytearray) -> None:
        """Read standard output. Raises ``ResultTooLong``."""
        assert process.stdout is not None
        while data := await process.stdout.read(65_536):
            output += data
            if len(output) > self.most:
                raise ResultTooLong(
                    f"The result has more than {self.most} bytes. Store it elsewhere, and write its address."
                )


def environment(job: Job) -> dict[str, str]:
    """Return the environment variables that tell a program about its job."""
    message = job.message
    told = {
        "ARQONBUS_JOB_CHANNEL": message.address,
        "ARQONBUS_JOB_ID": job.id,
        "ARQONBUS_JOB_SEQ": str(job.seq),
        "ARQONBUS_JOB_ATTEMPT": str(job.attempt),
        "ARQONBUS_JOB_FROM": message.sender,
        "ARQONBUS_JOB_TIME": wire_time(message.timestamp) if message.timestamp else "",
        "ARQONBUS_JOB_TEXT": message.text[:TEXT],
    }
    if message.traceparent:
        told["TRACEPARENT"] = message.traceparent
    return {name: value.replace("\0", "") for name, value in told.items()}


def result_of(output: bytes) -> Any:
    """Return standard output as the result: JSON if it is JSON, else its text. None if it is empty."""
    # The server takes no text with a null character. A result that it refuses would be refused at each attempt.
    text = output.decode("utf-8", "replace").replace("\0", "\ufffd").strip()
    if not text:
        return None
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON.")


async def _give(process: asyncio.subprocess.Process, job: Job) -> None:
    """Write the message to standard input. A program need not read it."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(json.dumps(job.message.raw, ensure_ascii=False).encode() + b"\n")
        await process.stdin.drain()
    process.stdin.close()


async def _pass_on(process: asyncio.subprocess.Process, last: deque[str]) -> None:
    """Pass standard error on, and remember its last line that is not empty."""
    assert process.stderr is not None
    line = b""
    while data := await process.stderr.read(65_536):
        with suppress(OSError):
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
        whole, _, line = (line + data).rpartition(b"\n")
        for text in reversed(whole.splitlines()):
            if text.strip():
                last.append(_shown(text))
                break
        line = line[-4000:]
    if line.strip():
        last.append(_shown(line))


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()[:1500]


def _check(talk: Sequence[asyncio.Future[None]]) -> None:
    for each in talk:
        if each.done() and (problem := each.exception()) is not None:
            raise problem


async def _exited(process: asyncio.subprocess.Process, talk: Sequence[asyncio.Future[None]]) -> int:
    """Wait for the end of the program itself. ``wait()`` would also wait for children that keep its pipes open."""
    while process.returncode is None:
        _check(talk)
        await asyncio.sleep(POLL)
    return process.returncode


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a program that still runs, with its children."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(ENDING):
                await _exited(process, [])
        except TimeoutError:
            _signal(process, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
            await _exited(process, [])
    process._transport.close()  # type: ignore[attr-defined] # the pipes, which a child may keep open


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.terminate()
        else:
            os.killpg(process.pid, number)  # It began a session of its own.
