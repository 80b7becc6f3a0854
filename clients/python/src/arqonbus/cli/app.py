"""The commands. Each one is a small coroutine over :func:`arqonbus.connect`; exit codes are in ``failures``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .._version import __version__
from ..errors import BusClosed
from ..messages import Message
from . import bench as benchmark
from . import failures, output, stdin
from .following import show_all
from .lookup import members_of, must_be_there
from .options import (
    DEFAULT_URL,
    ClientId,
    Command,
    Create,
    Group,
    IdentityFile,
    Json,
    SinceOption,
    Token,
    Url,
    carry_out,
    check_target,
    connected,
    parse_payload,
    parse_since,
)

app = typer.Typer(
    name="arqonbus",
    cls=Group,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Watch, speak and look around on an ArqonBus. "
    "ARQONBUS_URL and ARQONBUS_TOKEN say where it is and who you are.",
    epilog="Exit codes: 0 done, 1 refused, 2 wrong use, 3 not reachable, 4 not allowed, 5 not found, 6 conflict, "
    "7 timed out, 130 Ctrl+C.",
)


@app.command(cls=Command)
def tail(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS…", help="Channels as room:channel; `inbox` too.")],
    since: SinceOption = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many messages.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, help="End after so many seconds (with --count: exit code 7 if fewer came)."),
    ] = None,
    presence: Annotated[bool, typer.Option("--presence", help="Also who joins and leaves.")] = False,
    create: Create = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Show messages as they come; survives restarts of the server without losing or repeating one."""
    start = parse_since(since)

    async def watch() -> None:
        show = output.message_as_json if json_lines else output.show_message
        async with connected(url, token, client_id, identity, watch=True) as bus:
            if not create:
                await must_be_there(bus, [address for address in addresses if address != "inbox"])
            subscriptions = [
                bus.inbox(since=start) if address == "inbox" else bus.subscribe(address, since=start, presence=presence)
                for address in addresses
            ]
            for subscription in subscriptions:
                await subscription.open()
            output.say(f"listening to {', '.join(addresses)} as {bus.client_id}; Ctrl+C ends")
            await show_all(subscriptions, show, count, timeout)

    carry_out(url, watch())


@app.command(cls=Command)
def pub(
    address: Annotated[
        str, typer.Argument(help="room:channel; room:*: everybody in the room; pm:<client_id>: that client.")
    ],
    message: Annotated[str | None, typer.Argument(help="The text; - reads lines from standard input.")] = None,
    payload: Annotated[str | None, typer.Option("--payload", "-p", help="Payload: a JSON object.")] = None,
    type: Annotated[str, typer.Option("--type", help="The message's type.")] = "event",
    id: Annotated[
        str | None, typer.Option("--id", help="The message's id; a repeat of the same --client-id is kept once.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for the ack.")] = 30.0,
    create: Create = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Publish, and return when the message is durable. If the server restarts meanwhile it is sent again, and kept once."""
    check_target(address)
    body = parse_payload(payload)
    if message == "-" and id is not None:
        raise typer.BadParameter("--id names one message; lines from standard input get their own.")
    if message is None and body is None:
        raise typer.BadParameter("Say what to publish: a text, - for standard input, or --payload.")

    async def publish() -> None:
        async with connected(url, token, client_id, identity, timeout=timeout) as bus:
            if not create:
                await must_be_there(bus, [address])

            async def one(text: str | None) -> None:
                receipt = await bus.publish(address, text, payload=body, type=type, id=id)
                if json_lines:
                    row = {"id": receipt.id, "room": receipt.room, "channel": receipt.channel, "seq": receipt.seq}
                    output.as_json({**row, "duplicate": receipt.duplicate})
                else:
                    again = ", published before" if receipt.duplicate else ""
                    output.say(f"{receipt.room}:{receipt.channel} #{receipt.seq}{again}", "green")
                for target in receipt.unproven:
                    output.say(
                        f"{target} is away, and gets it only if it proves who it is (--identity, or a token)", "yellow"
                    )

            if message != "-":
                await one(message)
                return
            async for line in stdin.lines():
                await one(line)

    carry_out(url, publish())


@app.command(cls=Command)
def history(
    address: Annotated[str, typer.Argument(help="room:channel, or a room alone for all of its channels.")],
    since: SinceOption = None,
    until: Annotated[str | None, typer.Option("--until", help="An ISO time, or how long ago.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Messages at most.")] = None,
    type: Annotated[str | None, typer.Option("--type", help="Only this type.")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Only from this client_id.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """Past messages, oldest first: from --since on, else the newest 50 (or --limit)."""
    start, end = parse_since(since), parse_since(until)
    if isinstance(end, int):
        raise typer.BadParameter("--until is a time.")

    async def read() -> None:
        show = output.message_as_json if json_lines else output.show_message
        async with connected(url, token) as bus:
            if start is None and end is None:
                wanted = limit or 50
                messages: list[Message] = []
                before: int | str | None = None
                while len(messages) < wanted:
                    page = await bus.history_page(
                        address, limit=min(500, wanted - len(messages)), before=before, type=type, sender=sender
                    )
                    messages[:0] = page.messages
                    before = page.next
                    if before is None or not page.messages:
                        break
                for message in messages:
                    show(message)
                return
            number = 0
            async for message in bus.history(address, since=start, until=end, type=type, sender=sender):
                show(message)
                number += 1
                if number == limit:
                    return

    carry_out(url, read())


@app.command(cls=Command)
def status(url: Url = DEFAULT_URL, token: Token = None, json_lines: Json = False) -> None:
    """The server, its figures, and who is connected."""

    async def show() -> None:
        async with connected(url, token) as bus:
            answer = await bus.status()
            if json_lines:
                output.as_json(answer)
                return
            server, stats, now = answer["server"], answer["stats"], datetime.now(UTC)
            output.table(
                "",
                ("", ""),
                [
                    ("server", f"ArqonBus {server['version']}, protocol {server['protocol']}"),
                    ("up since", output.ago(server["started_at"], now)),
                    ("you are", f"{bus.client_id} ({bus.role})"),
                    *((name.replace("_", " "), value) for name, value in stats.items()),
                ],
            )
            output.table(
                "\nclients",
                ("client", "type", "name", "channels", "since", "active"),
                (
                    (
                        client["client_id"],
                        client["client_type"],
                        client["screen_name"],
                        ", ".join(client["channels"]),
                        output.ago(client["connected_at"], now),
                        output.ago(client["last_activity"], now),
                    )
                    for client in answer["clients"]
                ),
            )
            if answer["next"]:
                output.say("… and more: the console shows all of them")

    carry_out(url, show())


@app.command(cls=Command)
def channels(
    room: Annotated[str | None, typer.Argument(help="One room; without it, all of them.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """The channels that you may see."""

    async def show() -> None:
        async with connected(url, token) as bus:
            rows = await bus.list_channels(room)
            if json_lines:
                for row in rows:
                    output.as_json(row)
                return
            now = datetime.now(UTC)
            output.table(
                "",
                ("channel", "members", "last activity", "type", "description"),
                (
                    (
                        f"{row['room']}:{row['channel']}",
                        row["participants"],
                        output.ago(row["last_activity"], now),
                        row["type"],
                        row["description"],
                    )
                    for row in rows
                ),
            )

    carry_out(url, show())


@app.command(cls=Command)
def who(
    address: Annotated[
        str, typer.Argument(help="room:channel, for example science:explore; a room alone: all of its channels.")
    ],
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """The members of a channel, or of each channel of a room."""

    async def show() -> None:
        async with connected(url, token) as bus:
            found = await members_of(bus, address)
            rows = [(f"{info['room']}:{info['channel']}", row) for info in found for row in info["participants"]]
            if json_lines:
                for place, row in rows:
                    output.as_json(row if ":" in address else {"address": place, **row})
                return
            now = datetime.now(UTC)
            output.table(
                "",
                ("client", "channel", "type", "name", "joined", "active"),
                (
                    (
                        row["client_id"],
                        place,
                        row["client_type"],
                        row["screen_name"],
                        output.ago(row["joined_at"], now),
                        output.ago(row["last_activity"], now),
                    )
                    for place, row in rows
                ),
            )
            for info in found:
                place = f"{info['room']}:{info['channel']}"
                output.say(f"{info['participant_count']} in {place}, {info['seq']} messages so far")

    carry_out(url, show())


@app.command(cls=Command)
def bench(
    messages: Annotated[int, typer.Option("--messages", "-n", min=1, max=1_000_000, help="Messages in all.")] = 1000,
    publishers: Annotated[int, typer.Option("--publishers", min=1, max=200, help="Connections that publish.")] = 2,
    subscribers: Annotated[int, typer.Option("--subscribers", min=0, max=1000, help="Connections that listen.")] = 5,
    size: Annotated[int, typer.Option("--size", min=1, max=200_000, help="Bytes of each text.")] = 100,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """Measure acked publishes and their delivery; checks that nothing is lost, doubled or out of order.

    With an admin's token it runs in a channel of its own, which is removed at the end. Without one its messages stay in
    bench:load until the retention lets them go.
    """

    async def measure() -> None:
        with Progress(
            TextColumn("publishing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=output.err,
            transient=True,
            disable=not output.err.is_terminal,
        ) as progress:
            task = progress.add_task("", total=messages)
            figures = await benchmark.run(
                url,
                token,
                publishers=publishers,
                subscribers=subscribers,
                messages=messages,
                size=size,
                progress=lambda done: progress.update(task, completed=done),
            )
        if json_lines:
            output.as_json(figures.as_dict())
            return
        ack, delivery = figures.ack_ms, figures.delivery_ms
        limit = figures.server_limit_per_publisher
        output.table(
            "",
            ("", ""),
            [
                ("published", f"{figures.published_per_second:,.0f}/s acked, from {publishers} connections"),
                ("delivered", f"{figures.delivered_per_second:,.0f}/s to {subscribers} connections"),
                ("publish → ack", f"p50 {ack['p50']} ms, p99 {ack['p99']} ms"),
                ("publish → delivery", f"p50 {delivery['p50']} ms, p99 {delivery['p99']} ms"),
            ],
        )
        if limit:
            output.say(
                f"The server takes {limit:g} frames/s of a connection (ARQONBUS_RATE_LIMIT); the bench keeps to that."
            )

    carry_out(url, measure())


@app.command(
    cls=Command, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def mcp(context: typer.Context) -> None:
    """Serve MCP on standard input and output, so that an agent takes part (needs the extra mcp; options of arqonbus-mcp)."""
    try:
        from ..mcp_server import main as serve
    except ModuleNotFoundError as problem:
        output.fail(f"MCP needs the package {problem.name}.", 'pip install "mcp>=2"')
        raise typer.Exit(failures.USAGE) from None
    serve(context.args)


def _version(wanted: bool) -> None:
    if wanted:
        output.out.print(f"arqonbus {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Watch, speak and look around on an ArqonBus."""


def run() -> None:
    """The entry point."""
    try:
        app()
    except BusClosed:
        sys.exit(failures.UNREACHABLE)
