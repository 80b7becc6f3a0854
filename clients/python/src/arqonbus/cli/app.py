"""The commands of ``arqonbus``: small coroutines over :func:`arqonbus.connect`. ``failures`` has the exit codes."""

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
    help="Publish, follow and inspect messages on an ArqonBus. "
    "ARQONBUS_URL is the URL of the bus, and ARQONBUS_TOKEN is your access token.",
    epilog="Exit codes: 0 done, 1 refused, 2 wrong usage, 3 not reachable, 4 not allowed, 5 not found, 6 conflict, "
    "7 timed out, 130 Ctrl+C.",
)


@app.command(cls=Command)
def tail(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS…", help="Channels as room:channel, or `inbox`.")],
    since: SinceOption = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after this number of messages.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            min=0,
            help="Stop after this many seconds. With --count, exit with 7 if fewer messages arrived.",
        ),
    ] = None,
    presence: Annotated[bool, typer.Option("--presence", help="Show joins and leaves too.")] = False,
    create: Create = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Show messages as they arrive. After a restart of the server it continues, without a missing or repeated message."""
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
            output.say(f"listening to {', '.join(addresses)} as {bus.client_id}; press Ctrl+C to stop")
            await show_all(subscriptions, show, count, timeout)

    carry_out(url, watch())


@app.command(cls=Command)
def pub(
    address: Annotated[
        str, typer.Argument(help="room:channel, room:* for all members of the room, or pm:<client_id> for one client.")
    ],
    message: Annotated[str | None, typer.Argument(help="The text. - reads lines from standard input.")] = None,
    payload: Annotated[str | None, typer.Option("--payload", "-p", help="Payload, a JSON object.")] = None,
    type: Annotated[str, typer.Option("--type", help="Type of the message.")] = "event",
    id: Annotated[
        str | None, typer.Option("--id", help="Id of the message. The bus keeps a repeat by the same --client-id once.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for the acknowledgement.")] = 30.0,
    create: Create = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Publish, and return when the message is durable. During a restart of the server it repeats; the bus keeps one."""
    check_target(address)
    body = parse_payload(payload)
    if message == "-" and id is not None:
        raise typer.BadParameter("--id names one message. Lines from standard input get their own ids.")
    if message is None and body is None:
        raise typer.BadParameter("Give a text, - for standard input, or --payload.")

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
                        f"{target} is away. It receives the message only if it proves its identity (--identity, or a token).",
                        "yellow",
                    )

            if message != "-":
                await one(message)
                return
            async for line in stdin.lines():
                await one(line)

    carry_out(url, publish())


@app.command(cls=Command)
def history(
    address: Annotated[str, typer.Argument(help="room:channel, or a room for all of its channels.")],
    since: SinceOption = None,
    until: Annotated[str | None, typer.Option("--until", help="End at an ISO time, or at a period before now.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Maximum number of messages.")] = None,
    type: Annotated[str | None, typer.Option("--type", help="Show only this type.")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Show only messages of this client_id.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """Show past messages, oldest first. Without --since, show the newest 50 (or --limit)."""
    start, end = parse_since(since), parse_since(until)
    if isinstance(end, int):
        raise typer.BadParameter("--until must be a time.")

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
    """Show the server, its figures and the connected clients."""

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
                output.say("There are more clients. The console shows all of them.")

    carry_out(url, show())


@app.command(cls=Command)
def channels(
    room: Annotated[str | None, typer.Argument(help="Room to list. By default all rooms are listed.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """List the channels that you may see."""

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
        str, typer.Argument(help="room:channel, for example science:explore, or a room for all of its channels.")
    ],
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """List the members of a channel, or of each channel of a room."""

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
                output.say(f"{place}: {info['participant_count']} connected, {info['seq']} messages so far")

    carry_out(url, show())


@app.command(cls=Command)
def bench(
    messages: Annotated[
        int, typer.Option("--messages", "-n", min=1, max=1_000_000, help="Total number of messages.")
    ] = 1000,
    publishers: Annotated[
        int, typer.Option("--publishers", min=1, max=200, help="Number of publishing connections.")
    ] = 2,
    subscribers: Annotated[
        int, typer.Option("--subscribers", min=0, max=1000, help="Number of subscribing connections.")
    ] = 5,
    size: Annotated[int, typer.Option("--size", min=1, max=200_000, help="Size of each text in bytes.")] = 100,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """Measure acknowledged publishes and their delivery. Fail if a message is lost, repeated or out of order.

    With an admin's token it creates a channel and deletes it at the end. Otherwise its messages stay in bench:load until the
    retention deletes them.
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
                f"The server accepts {limit:g} frames/s per connection (ARQONBUS_RATE_LIMIT). The bench respects this limit."
            )

    carry_out(url, measure())


@app.command(
    cls=Command, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def mcp(context: typer.Context) -> None:
    """Serve MCP on standard input and output for an agent. It needs the extra mcp and takes the options of arqonbus-mcp."""
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
    """Publish, follow and inspect messages on an ArqonBus."""


def run() -> None:
    """Run the command line."""
    try:
        app()
    except BusClosed:
        sys.exit(failures.UNREACHABLE)
