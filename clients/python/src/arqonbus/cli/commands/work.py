"""``arqonbus work`` and ``arqonbus jobs``: run a program for each job, and look at the queue."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ...bus import Bus
from ...errors import ChannelExists, Unsendable
from ...jobs import Job, back_off
from ...work import Work, together
from .. import output
from ..lookup import must_be_there
from ..options import DEFAULT_URL, ClientId, IdentityFile, Json, Token, Url, carry_out, check_target, connected
from ..programs import RESULT, Program, ProgramFailed, ResultTooLong

#: The exit code of a worker that SIGTERM ended.
TERMINATED = 143


def work(
    address: Annotated[str, typer.Argument(help="The work channel as room:channel.")],
    command: Annotated[
        list[str], typer.Argument(metavar="-- PROGRAM [ARGUMENTS]…", help="The program and its arguments.")
    ],
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=1000, help="Jobs at once.")] = 1,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after this number of jobs.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, help="End the program after so many seconds. The job failed then."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Create the work channel if it is missing.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Run a program for each job: arqonbus work jobs:new -- ./script. The program finds the message, as JSON, on standard input.

    The variables ARQONBUS_JOB_TEXT, _ID, _SEQ, _ATTEMPT, _FROM, _TIME and _CHANNEL tell the rest. With exit code 0 the job is
    done, and standard output is its result. Otherwise it waits for another attempt, with the last line of standard error as its
    error. Ctrl+C gives the running jobs back.
    """
    check_target(address)
    if shutil.which(command[0]) is None:
        raise typer.BadParameter(f"{command[0]!r} is no program that can be started. Give its path: -- ./script")
    terminated = False

    async def serve() -> None:
        nonlocal terminated
        current = asyncio.current_task()
        assert current is not None
        task = current

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            async with connected(url, token, client_id, identity, watch=True) as bus:
                await _ready(bus, address, create=create)
                most = int(bus.limits.get("frame_bytes") or 2 * RESULT) // 2
                async with bus.work(address, concurrency=concurrency) as jobs:
                    output.say(f"working on {address} as {bus.client_id}; press Ctrl+C to stop")
                    await _run_all(jobs, Program(command, timeout, most), count, json_lines=json_lines)
        except asyncio.CancelledError:
            if not terminated:
                raise

    carry_out(url, serve())
    if terminated:
        raise typer.Exit(TERMINATED)


async def _ready(bus: Bus, address: str, *, create: bool) -> None:
    if create:
        with suppress(ChannelExists):
            await bus.create_channel(address, work=True)
    else:
        await must_be_there(bus, [address])


async def _run_all(jobs: Work, program: Program, count: int | None, *, json_lines: bool) -> None:
    """Run the program for each job. At most ``count`` jobs are begun (None: no limit)."""
    left = count

    async def one() -> None:
        nonlocal left
        while left is None or left > 0:
            if left is not None:
                left -= 1
            job = await anext(jobs, None)
            if job is None:
                return
            error = None
            async with job:
                try:
                    job.result(await program.run(job))
                except (ResultTooLong, Unsendable) as problem:
                    error = str(problem)
                    await job.reject(error)
                except (ProgramFailed, OSError) as problem:
                    error = str(problem)
                    await job.release(delay=back_off(job.attempt), error=error)
            _report(job, error, json_lines=json_lines)
            del job  # It must not live on while this waits for the next one.

    await together(one() for _ in range(min(jobs.concurrency, count or jobs.concurrency)))


def _report(job: Job, error: str | None, *, json_lines: bool) -> None:
    if error is None and job.error is not None:
        error = str(job.error)
    if json_lines:
        row = {"channel": job.message.address, "seq": job.seq, "id": job.id, "attempt": job.attempt, "state": job.state}
        output.as_json(row if error is None else {**row, "error": error})
        return
    again = f", attempt {job.attempt}" if job.attempt > 1 else ""
    text = f"{job.message.address} #{job.seq}{again}: {job.state}"
    output.say(text if error is None else f"{text}: {error}", "green" if job.state == "done" else "yellow")


def jobs(
    address: Annotated[str, typer.Argument(help="The work channel as room:channel.")],
    retry: Annotated[
        list[int] | None, typer.Option("--retry", help="Make the dead job with this number ready again.")
    ] = None,
    discard: Annotated[list[int] | None, typer.Option("--discard", help="Discard the job with this number.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """Show the queue of a work channel: what waits, who works on what, and what is dead and why."""
    check_target(address)

    async def show() -> None:
        async with connected(url, token) as bus:
            await must_be_there(bus, [address])
            for seq in retry or []:
                await bus.retry_job(address, seq)
                output.say(f"{address} #{seq} is ready again", "green")
            for seq in discard or []:
                await bus.discard_job(address, seq)
                output.say(f"{address} #{seq} is discarded", "green")
            queue = await bus.jobs(address)
            if json_lines:
                output.as_json(queue)
            else:
                _show(queue)

    carry_out(url, show())


def _show(queue: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    counts = (("ready", "ready"), ("delayed", "delayed"), ("claimed", "claimed_count"), ("dead", "dead_count"))
    rows = [(word, queue.get(key)) for word, key in counts]
    oldest = [("oldest", output.ago(queue["oldest"], now))] if queue.get("oldest") else []
    output.table("", ("", ""), [*rows, *oldest])
    if queue.get("claimed"):
        output.table(
            "\nclaimed",
            ("job", "by", "attempt", "since"),
            (
                (f"#{row['seq']}", row.get("by"), row["attempt"], output.ago(row.get("since"), now))
                for row in queue["claimed"]
            ),
        )
    if queue.get("dead"):
        output.table(
            "\ndead",
            ("job", "attempts", "when", "last error"),
            (
                (
                    f"#{row['seq']}",
                    row["attempts"],
                    output.ago(row.get("at"), now),
                    _last_error(row.get("errors") or []),
                )
                for row in queue["dead"]
            ),
        )
        output.say(f"arqonbus jobs {queue['room']}:{queue['channel']} --retry SEQ   makes one ready again")


def _last_error(errors: list[dict[str, Any]]) -> str:
    return str(errors[-1].get("error") or errors[-1].get("why") or "") if errors else ""
